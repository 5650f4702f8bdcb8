// quantization_config of GGUF: which file type to make, and what may bend its rules. GGUF files carry no such config of their own
// (the file is the config); this is what `--config`, the flags and GgufConfig say.
import { ConfigError, UsageError } from '../../core/errors.ts'
import { type Json, type JsonObject, type PlainObject, toPlain } from '../../core/json.ts'
import type { MethodFlags } from '../types.ts'
import {
  FILE_TYPE_NAMES,
  type FileTypeName,
  fileTypeNamed,
  isTensorType,
  TENSOR_TYPES,
  type TensorType,
} from './file-types.ts'
import type { Imatrix } from './imatrix.ts'

/** A tensor whose name contains a match of `pattern` gets `type`. */
export interface TensorTypeRule {
  readonly pattern: RegExp
  readonly type: TensorType
}

export interface Gguf {
  readonly type: FileTypeName
  /** Path of the importance matrix as typed: it is stored in the file. */
  readonly imatrix: string | null
  /** Its contents, once read. */
  readonly importance?: Imatrix
  readonly tensorTypes: readonly TensorTypeRule[]
  readonly tokenEmbeddingType: TensorType | null
  readonly outputTensorType: TensorType | null
  /** No rules by role: every tensor gets the file type's own type. */
  readonly pure: boolean
  readonly leaveOutputTensor: boolean
  /** A source tensor that is quantised already may be decoded and quantised again. */
  readonly allowRequantize: boolean
  /** `tokenizer.ggml.pre` of the file, instead of what the tokenizer says. */
  readonly pre: string | null
  readonly stored: JsonObject
}

/** Settings of one tensor that changes its type. */
export interface GgufSettings {
  readonly type: TensorType
  /** One weight a column, or one a column and expert. */
  readonly importance?: Float32Array
}

const DEFAULT_TYPE: FileTypeName = 'q4_k_m'

const DEFAULTS: Readonly<Record<string, Json>> = {
  quant_method: 'gguf',
  type: DEFAULT_TYPE,
  imatrix: null,
  tensor_types: {},
  token_embedding_type: null,
  output_tensor_type: null,
  pure: false,
  leave_output_tensor: false,
  allow_requantize: false,
  pre: null,
}

/** Parses the config. Throws ConfigError naming the key and the legal values. */
export function parseConfig(stored: JsonObject): Gguf {
  for (const key of Object.keys(stored)) {
    if (key in DEFAULTS) continue
    throw new ConfigError(`quantization_config of gguf: there is no key "${key}"`, {
      key,
      expected: Object.keys(DEFAULTS),
      hint: `its keys are ${Object.keys(DEFAULTS).join(', ')}`,
    })
  }
  const full: JsonObject = { ...DEFAULTS, ...stored }
  const plain = toPlain(full) as PlainObject
  const type = typeof plain.type === 'string' ? fileTypeNamed(plain.type) : undefined
  if (!type)
    throw new ConfigError(unknownType(plain.type), { key: 'type', actual: plain.type, expected: FILE_TYPE_NAMES })
  full.type = type
  return {
    type,
    imatrix: optionalText(plain, 'imatrix', 'the path of a file'),
    tensorTypes: tensorTypeRules(plain.tensor_types),
    tokenEmbeddingType: optionalType(plain, 'token_embedding_type'),
    outputTensorType: optionalType(plain, 'output_tensor_type'),
    pure: flag(plain, 'pure'),
    leaveOutputTensor: flag(plain, 'leave_output_tensor'),
    allowRequantize: flag(plain, 'allow_requantize'),
    pre: optionalText(plain, 'pre', 'the name of a pre-tokenizer'),
    stored: full,
  }
}

function unknownType(type: unknown): string {
  return `Unknown GGUF type ${JSON.stringify(type)}: fewbit writes ${FILE_TYPE_NAMES.join(', ')}`
}

function wrong(key: string, actual: unknown, expected: string): never {
  throw new ConfigError(`quantization_config of gguf: "${key}" is ${JSON.stringify(actual)}, expected ${expected}`, {
    key,
    actual,
    expected,
  })
}

function optionalText(config: PlainObject, key: string, what: string): string | null {
  const value = config[key]
  if (value !== null && (typeof value !== 'string' || value === '')) wrong(key, value, `${what}, or null`)
  return value as string | null
}

function flag(config: PlainObject, key: string): boolean {
  const value = config[key]
  if (typeof value !== 'boolean') wrong(key, value, 'true or false')
  return value as boolean
}

function tensorType(key: string, value: unknown): TensorType {
  const type = String(value).toUpperCase()
  if (typeof value !== 'string' || !isTensorType(type))
    wrong(key, value, `one of ${TENSOR_TYPES.map((t) => t.toLowerCase()).join(', ')}`)
  return type as TensorType
}

function optionalType(config: PlainObject, key: string): TensorType | null {
  return config[key] === null ? null : tensorType(key, config[key])
}

/** `{"REGEX": "type"}`, or a list of "REGEX=type" as llama-quantize's --tensor-type takes them. */
function tensorTypeRules(value: unknown): TensorTypeRule[] {
  const key = 'tensor_types'
  const pairs = typeof value === 'string' ? [value] : value
  if (pairs === null || typeof pairs !== 'object') wrong(key, value, 'an object of "REGEX": "type"')
  const entries = Array.isArray(pairs) ? pairs.map(splitPair) : Object.entries(pairs as PlainObject)
  return entries.map(([pattern, type]) => ({ pattern: compile(pattern), type: tensorType(key, type) }))
}

function splitPair(pair: unknown): [string, string] {
  const at = typeof pair === 'string' ? pair.lastIndexOf('=') : -1
  if (at < 1) wrong('tensor_types', pair, '"REGEX=type", e.g. "ffn_down=q6_k"')
  const text = pair as string
  return [text.slice(0, at), text.slice(at + 1)]
}

function compile(pattern: string): RegExp {
  try {
    return new RegExp(pattern.toLowerCase())
  } catch (cause) {
    throw new ConfigError(`quantization_config of gguf: "tensor_types" has a bad regular expression "${pattern}"`, {
      key: 'tensor_types',
      actual: pattern,
      cause,
    })
  }
}

const TYPE_OF_BITS: Readonly<Record<number, FileTypeName>> = {
  2: 'q2_k',
  3: 'q3_k_m',
  4: 'q4_k_m',
  5: 'q5_k_m',
  6: 'q6_k',
  8: 'q8_0',
  16: 'f16',
  32: 'f32',
}

/** Keys that flags may set besides `type`; a flag is the key in kebab-case or camelCase. */
export const FLAG_KEYS: readonly string[] = Object.keys(DEFAULTS).filter(
  (key) => key !== 'quant_method' && key !== 'type',
)

/** The config that flags stand for. Throws UsageError where a flag means nothing to GGUF. */
export function fromFlags(flags: MethodFlags): JsonObject {
  const { bits, groupSize, type, ...others } = flags
  if (groupSize !== undefined && groupSize !== null)
    throw new UsageError('GGUF has no group size of its own: the type fixes it (32 for q*_0 and q*_1, 256 for q*_k)', {
      flag: 'group-size',
      hint: '--type q4_0 | q4_k_m | ...',
    })
  if (bits !== undefined && !(bits in TYPE_OF_BITS))
    throw new UsageError(`GGUF has no type of ${bits} bits here: there are ${Object.keys(TYPE_OF_BITS).join(', ')}`, {
      flag: 'bits',
      actual: bits,
      hint: '--type q4_0 | q4_k_m | ...',
    })
  const name = type === undefined ? TYPE_OF_BITS[bits ?? 4] : fileTypeNamed(type)
  if (!name) throw new UsageError(unknownType(type), { flag: 'type', actual: type, expected: FILE_TYPE_NAMES })
  const config: JsonObject = { quant_method: 'gguf', type: name }
  for (const [flagName, value] of Object.entries(others)) {
    if (value === undefined) continue
    const named = snakeCase(flagName)
    const key = FLAG_KEYS.find((k) => k === (named === 'tensor_type' ? 'tensor_types' : named)) // llama-quantize's flag
    if (!key)
      throw new UsageError(`GGUF has no option "${flagName}"`, {
        flag: flagName,
        hint: `its options are ${FLAG_KEYS.join(', ')}`,
      })
    config[key] = value as Json
  }
  return config
}

/** `tensor-types`, `tensorTypes` -> `tensor_types`. */
function snakeCase(name: string): string {
  return name.replace(/-/g, '_').replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`)
}
