import type { Method } from '../types.ts'
import { FLAG_KEYS, fromFlags, type Gguf, type GgufSettings, parseConfig } from './config.ts'
import { fileType } from './file-types.ts'
import { readImatrix } from './imatrix.ts'
import { quantizedMetadata } from './metadata.ts'
import { quantize } from './quantize.ts'
import { stored } from './stored.ts'
import { isConverters, plan, quantizerOrder } from './type-rules.ts'

export const gguf: Method<Gguf, GgufSettings> = {
  name: 'gguf',
  summary: 'llama.cpp files: q8_0, q6_k, q5_*, q4_* mixed by tensor; an importance matrix is optional',
  configClass: 'GgufConfig',
  container: 'gguf',
  scope: 'tensor',
  capabilities: {
    bits: [4, 5, 6, 8, 16, 32],
    calibration: 'optional',
    devices: ['cpu', 'wasm', 'reference'],
    onTheFly: true,
    serialisable: true,
  },
  options: FLAG_KEYS,
  parseConfig,
  fromFlags,
  plan,
  quantize,
  stored,
  // Experts with an importance of their own need the whole tensor; rows of all others are independent.
  sliceRows: (info, { importance }) => (importance && importance.length !== info.shape.at(-1) ? undefined : 1),
  file: {
    isConverters,
    fileType: (config) => fileType(config.type).id,
    metadata: quantizedMetadata,
    order: quantizerOrder,
  },
  async loadFiles(config, open) {
    if (config.imatrix === null) return config
    const source = await open(config.imatrix)
    try {
      return { ...config, importance: await readImatrix(source) }
    } finally {
      await source.close()
    }
  },
}
