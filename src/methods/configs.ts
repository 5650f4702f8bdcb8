// Config classes of the public API: options in camelCase, checked when the object is made, stored as the method's own config.
import { ConfigError } from '../core/errors.ts'
import type { JsonObject } from '../core/json.ts'
import { squash } from './flags.ts'
import { methodNamed } from './index.ts'
import type { Method, MethodFlags } from './types.ts'

/** A method and its `quantization_config`. */
export class QuantizationConfig {
  readonly method: Method
  /** As it stands in a config.json. */
  readonly stored: JsonObject

  /** Throws ConfigError naming the option. */
  constructor(method: Method | string, options: MethodFlags = {}) {
    this.method = typeof method === 'string' ? methodNamed(method) : method
    this.stored = storedConfig(this.method, options)
  }

  /** As the method reads it. */
  parse(): unknown {
    return this.method.parseConfig(this.stored)
  }
}

/** Options that stand for a key of every method. */
const SHORTHANDS = ['bits', 'groupSize', 'type']

function storedConfig(method: Method, options: MethodFlags): JsonObject {
  const keys = method.options && Object.keys(method.options).map(camelCase)
  if (keys) for (const name of Object.keys(options)) checkName(name, [...SHORTHANDS, ...keys], method)
  const stored = method.fromFlags(options)
  method.parseConfig(stored)
  return stored
}

function checkName(name: string, legal: readonly string[], method: Method): void {
  if (legal.some((key) => squash(key) === squash(name))) return
  const [near] = [...legal].sort((a, b) => distance(a, name) - distance(b, name))
  throw new ConfigError(`"${name}" is no option of ${method.configClass}: did you mean "${near}"?`, {
    key: name,
    expected: legal,
    hint: `its options are ${legal.join(', ')}`,
  })
}

const camelCase = (key: string) => key.replace(/_(\w)/g, (_, c: string) => c.toUpperCase())

/** Edits between two words: letters added, left out or changed. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++)
      next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1))
    row = next
  }
  return row[b.length]
}

/** Options of AQLM: the scheme, by `type` or piece by piece (2x8 g8 where nothing is said), and how hard codes are searched for. */
export interface AqlmOptions {
  /** Codebooks x bits, and the group size: `2x8g8`. */
  readonly type?: string
  /** Bits a weight: as many 8-bit codebooks as that takes. */
  readonly bits?: number
  readonly groupSize?: number
  readonly numCodebooks?: number
  readonly nbitsPerCodebook?: number
  readonly inGroupSize?: number
  readonly outGroupSize?: number
  readonly linearWeightsNotToQuantize?: readonly string[] | null
  readonly maxEpochs?: number
  readonly relativeMseTolerance?: number
  readonly beamSize?: number
  readonly initMaxIter?: number
  readonly initMaxPointsPerCentroid?: number
  readonly seed?: number
}

export class AqlmConfig extends QuantizationConfig {
  constructor(options: AqlmOptions = {}) {
    super('aqlm', { ...options })
  }
}

/** Options of bitsandbytes; with none, NF4. The names are the reference's in camelCase. */
export interface BitsAndBytesOptions {
  readonly bits?: 4 | 8
  readonly type?: 'nf4' | 'fp4' | 'int8'
  readonly loadIn4bit?: boolean
  readonly loadIn8bit?: boolean
  readonly bnb4bitQuantType?: 'nf4' | 'fp4'
  readonly bnb4bitUseDoubleQuant?: boolean
  readonly bnb4bitComputeDtype?: string
  readonly bnb4bitQuantStorage?: string
  readonly llmInt8Threshold?: number
  readonly llmInt8SkipModules?: readonly string[] | null
}

export class BitsAndBytesConfig extends QuantizationConfig {
  constructor(options: BitsAndBytesOptions = {}) {
    super('bitsandbytes', { ...options })
  }
}

/** Options of EETQ, which is int8. */
export interface EetqOptions {
  readonly bits?: 8
  readonly weights?: 'int8'
  readonly modulesToNotConvert?: readonly string[] | null
  /** Byte order of the file: `sm80` (default), or `sm70` for Volta. */
  readonly arrangement?: 'sm80' | 'sm70'
  readonly allowNonFinite?: boolean
}

export class EetqConfig extends QuantizationConfig {
  constructor(options: EetqOptions = {}) {
    super('eetq', { ...options })
  }
}

/** Options of HQQ; `axis` 1 groups along the columns of a row. */
export interface HqqOptions {
  readonly bits?: number
  readonly nbits?: number
  readonly groupSize?: number | null
  readonly axis?: 0 | 1
  readonly viewAsFloat?: boolean
  readonly dynamicConfig?: Readonly<Record<string, unknown>> | null
  readonly skipModules?: readonly string[]
}

export class HqqConfig extends QuantizationConfig {
  constructor(options: HqqOptions = {}) {
    super('hqq', { ...options })
  }
}

/** Options of GGUF: the file type (`q4_k_m` where none is given) and what bends its rules. */
export interface GgufOptions {
  readonly bits?: number
  readonly type?: string
  /** Path of an importance matrix. */
  readonly imatrix?: string | null
  readonly tensorTypes?: Readonly<Record<string, string>> | readonly string[]
  readonly tokenEmbeddingType?: string | null
  readonly outputTensorType?: string | null
  readonly pure?: boolean
  readonly leaveOutputTensor?: boolean
  readonly allowRequantize?: boolean
}

export class GgufConfig extends QuantizationConfig {
  constructor(options: GgufOptions = {}) {
    super('gguf', { ...options })
  }
}

/** Options of Quanto; with none, int8 with the head left float. */
export interface QuantoOptions {
  readonly bits?: 2 | 4 | 8
  /** `int2`, `int4`, `int8`, `float8` (e4m3fn), `float8_e5m2`, `float8_e4m3fnuz`. */
  readonly weights?: string
  /** `int8`, `float8`, `float8_e5m2`, `float8_e4m3fnuz`: inputs of the linears, by scales that calibration finds. Default none. */
  readonly activations?: string | null
  /** Of the scales of outputs while calibrating. Default 0.9. */
  readonly momentum?: number
  readonly modulesToNotConvert?: readonly string[] | null
  readonly optimizer?: 'max' | 'absmax' | 'hqq' | null
  /** Shell patterns of full module names; with either, the head is quantised too unless a pattern excludes it. */
  readonly include?: string | readonly string[] | null
  readonly exclude?: string | readonly string[] | null
  /** The twice rounded shift that the reference stores for bfloat16 groups of 128. */
  readonly tinygemm?: boolean
}

export class QuantoConfig extends QuantizationConfig {
  constructor(options: QuantoOptions = {}) {
    super('quanto', { ...options })
  }
}

/** A config from a `quantization_config` as it stands in a config.json. Throws ConfigError or UsageError. */
export function configFromStored(stored: JsonObject): QuantizationConfig {
  const name = stored.quant_method
  if (typeof name !== 'string')
    throw new ConfigError('A quantization config needs "quant_method"', { key: 'quant_method' })
  const method = methodNamed(name)
  method.parseConfig(stored)
  return Object.assign(Object.create(QuantizationConfig.prototype), { method, stored }) as QuantizationConfig
}
