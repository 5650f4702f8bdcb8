import type { Method, Variant } from '../types.ts'
import { fromFlags, type Gguf, type GgufSettings, OPTIONS, parseConfig } from './config.ts'
import { FILE_TYPE_NAMES, type FileTypeName, fileType, isFloatType, TENSOR_TYPES } from './file-types.ts'
import { IMATRIX_FILE, readImatrix } from './imatrix.ts'
import { quantizedMetadata } from './metadata.ts'
import { encode, quantize } from './quantize.ts'
import { stored } from './stored.ts'
import { isConverters, NEEDY, needyFile, plan, quantizerOrder } from './type-rules.ts'

/** Nominal bits of a type: the number in its name. */
const bitsOf = (type: string) => Number(/\d+/.exec(type)![0])

/** mxfp4_moe is q8_0 but for experts. */
const fileBits = (type: FileTypeName) => (type === 'mxfp4_moe' ? 8 : bitsOf(type))

/** With a matrix where the type demands one. */
const VARIANTS: readonly Variant[] = [
  ...FILE_TYPE_NAMES.map(
    (type): Variant => ({
      name: type,
      bits: fileBits(type),
      options: { type, ...(needyFile(type) && { imatrix: IMATRIX_FILE }) },
    }),
  ),
  ...TENSOR_TYPES.filter((type) => !isFloatType(type)).map(
    (type): Variant => ({
      name: `all tensors ${type}`,
      bits: bitsOf(type),
      options: {
        type: 'q8_0',
        pure: true,
        tensorTypes: { '.': type.toLowerCase() },
        ...(NEEDY.includes(type) && { imatrix: IMATRIX_FILE }),
      },
      dtype: 'BF16',
    }),
  ),
  ...(['q4_0', 'q4_k_m', 'iq4_xs'] as const).map(
    (type): Variant => ({
      name: `${type} with an importance matrix`,
      bits: 4,
      options: { type, imatrix: IMATRIX_FILE },
    }),
  ),
]

export const gguf: Method<Gguf, GgufSettings> = {
  name: 'gguf',
  summary: 'llama.cpp files: q8_0 to q2_k, iq*, tq*, mxfp4 and more, mixed by tensor; an importance matrix is optional',
  configClass: 'GgufConfig',
  container: 'gguf',
  scope: 'tensor',
  capabilities: {
    bits: [...new Set(VARIANTS.map((v) => v.bits))].sort((a, b) => a - b),
    calibration: 'optional',
    devices: ['cpu', 'wasm', 'reference'],
    onTheFly: true,
    serialisable: true,
  },
  variants: VARIANTS,
  options: OPTIONS,
  parseConfig,
  fromFlags,
  plan,
  quantize,
  encode,
  stored,
  // Experts with an importance of their own need the whole tensor; rows of all others are independent.
  sliceRows: (info, { importance }) => (importance && importance.length !== info.shape.at(-1) ? undefined : 1),
  file: {
    isConverters,
    pre: (config) => config.pre ?? undefined,
    fileType: (config) => fileType(config.type).id,
    metadata: quantizedMetadata,
    order: quantizerOrder,
  },
  fingerprint: ({ importance }) => importance?.digest,
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
