import type { Method } from '../types.ts'
import { FLAG_KEYS, fromFlags, type Gguf, type GgufSettings, parseConfig } from './config.ts'
import { readImatrix } from './imatrix.ts'
import { quantize } from './quantize.ts'
import { stored } from './stored.ts'
import { plan } from './type-rules.ts'

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
