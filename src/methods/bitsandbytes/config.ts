// quantization_config of bitsandbytes (BitsAndBytesConfig): defaults, legal values, the reference's spelling when stored.
import { type DType, type FloatDType, TORCH_DTYPES } from '../../core/dtypes.ts'
import { ConfigError } from '../../core/errors.ts'
import { type Json, JsonNumber, type JsonObject, pythonFloat, toPlain } from '../../core/json.ts'
import { keyOfFlag } from '../flags.ts'
import { skipList } from '../skip.ts'
import type { MethodFlags } from '../types.ts'

/** Block size through a quantization_config: always this; files may hold any of BLOCK_SIZES. */
export const BLOCK_SIZE = 64
export const BLOCK_SIZES: readonly number[] = [32, 64, 128, 256, 512, 1024, 2048, 4096]
/** Scales that share one scale of their own under double quantisation. */
export const NESTED_BLOCK_SIZE = 256
/** Dtypes that may carry the packed bytes of a 4-bit weight. */
export const STORAGE_DTYPES = ['uint8', 'int8', 'float16', 'bfloat16', 'float32', 'float64'] as const
export const SKIP_KEY = 'llm_int8_skip_modules'

export interface Settings4bit {
  readonly kind: '4bit'
  readonly quantType: 'nf4' | 'fp4'
  readonly blockSize: number
  readonly doubleQuant: boolean
  /** Dtype of the tensor that carries the packed bytes. */
  readonly storage: DType
}

export interface SettingsInt8 {
  readonly kind: 'int8'
  /** Activations of at least this size are multiplied unquantised; 0: none are. */
  readonly outlierThreshold: number
}

export type BitsAndBytesSettings = Settings4bit | SettingsInt8

export interface BitsAndBytes {
  /** Of every quantised linear. */
  readonly settings: BitsAndBytesSettings
  readonly computeDtype: FloatDType
  /** Keep float weights and quantise at every forward: legal to read, refused when quantising. */
  readonly hasFp16Weight: boolean
  /** Patterns, or null for the automatic list. */
  readonly skipModules: readonly string[] | null
  /** Keys that bitsandbytes does not know; they are not stored. */
  readonly unknownKeys: readonly string[]
  /** Every key as it is to be stored. */
  readonly stored: JsonObject
}

interface Field {
  readonly initial: Json
  readonly expected: string
  /** The value as it is to be stored, or undefined where it is not legal. */
  check(value: Json): Json | undefined
  /** The value that a command-line word stands for. */
  fromText(text: string): Json
}

const BOOLEAN: Field = {
  initial: false,
  expected: 'true or false',
  check: (value) => (typeof value === 'boolean' ? value : undefined),
  fromText: (text) => (text === 'true' ? true : text === 'false' ? false : text),
}

const oneOf = (initial: string, legal: readonly string[]): Field => ({
  initial,
  expected: legal.map((name) => `"${name}"`).join(', '),
  check: (value) => (typeof value === 'string' && legal.includes(value) ? value : undefined),
  fromText: (text) => text,
})

/** As `oneOf`; null stands for the default. */
const dtypeOf = (initial: string, legal: readonly string[]): Field => {
  const field = oneOf(initial, legal)
  return { ...field, check: (value) => (value === null ? initial : field.check(value)) }
}

const THRESHOLD: Field = {
  initial: new JsonNumber('6.0'),
  expected: 'a number from 0 on',
  check(value) {
    if (!(value instanceof JsonNumber) || !(value.value >= 0) || !Number.isFinite(value.value)) return undefined
    return /^\d+$/.test(value.text) ? new JsonNumber(pythonFloat(value.value)) : value // 6 is stored as 6.0
  },
  fromText: (text) => (text.trim() !== '' && Number.isFinite(Number(text)) ? new JsonNumber(text.trim()) : text),
}

const SKIP_MODULES: Field = {
  initial: null,
  expected: 'null or a list of strings',
  check: (value) =>
    value === null || (Array.isArray(value) && value.every((v) => typeof v === 'string')) ? value : undefined,
  fromText: (text) => (text === 'null' ? null : text === '' ? [] : text.split(',')),
}

/** In the reference's (alphabetical) order. `_load_in_*` are duplicates that are written and never read. */
const FIELDS: Readonly<Record<string, Field>> = {
  bnb_4bit_compute_dtype: dtypeOf('float32', ['float32', 'bfloat16', 'float16']),
  bnb_4bit_quant_storage: dtypeOf('uint8', STORAGE_DTYPES),
  bnb_4bit_quant_type: oneOf('fp4', ['fp4', 'nf4']),
  bnb_4bit_use_double_quant: BOOLEAN,
  llm_int8_enable_fp32_cpu_offload: BOOLEAN,
  llm_int8_has_fp16_weight: BOOLEAN,
  [SKIP_KEY]: SKIP_MODULES,
  llm_int8_threshold: THRESHOLD,
  load_in_4bit: BOOLEAN,
  load_in_8bit: BOOLEAN,
}

/** Keys that a user may set. */
export const OPTIONS: readonly string[] = Object.keys(FIELDS).filter(
  (key) => !key.startsWith('_') && key !== 'quant_method',
)
const NOT_READ = ['_load_in_4bit', '_load_in_8bit', 'quant_method']

/** Short names that people type, for hints. */
const LONG_NAMES: Readonly<Record<string, string>> = {
  bf16: 'bfloat16',
  fp16: 'float16',
  f16: 'float16',
  half: 'float16',
  fp32: 'float32',
  f32: 'float32',
}

/** The value of a key as it is to be stored. Throws ConfigError. */
function checked(key: string, value: Json): Json {
  const field = FIELDS[key]
  const legal = field.check(value)
  return legal === undefined ? refuse(key, value, field.expected) : legal
}

function refuse(key: string, actual: Json, expected: string): never {
  const plain = toPlain(actual)
  const longName = typeof plain === 'string' ? LONG_NAMES[plain] : undefined
  throw new ConfigError(
    `quantization_config of bitsandbytes: "${key}" is ${JSON.stringify(plain)}, expected ${expected}`,
    { key, actual: plain, expected, ...(longName && { hint: `write "${longName}"` }) },
  )
}

/** Parses a quantization_config as it stands in a config.json. Throws ConfigError naming the key. */
export function parseConfig(given: JsonObject): BitsAndBytes {
  const stored: JsonObject = {}
  for (const key of Object.keys(FIELDS))
    stored[key] = checked(key, given[key] === undefined ? FIELDS[key].initial : given[key])
  if (stored.load_in_4bit === stored.load_in_8bit) {
    const problem = stored.load_in_4bit ? 'are both true' : 'are both missing or false'
    throw new ConfigError(`quantization_config of bitsandbytes: "load_in_4bit" and "load_in_8bit" ${problem}`, {
      key: 'load_in_4bit',
      hint: 'set exactly one of them to true',
    })
  }
  const skipModules = stored[SKIP_KEY] as string[] | null
  if (skipModules) skipList(skipModules, SKIP_KEY) // a bad pattern is refused before any work
  return {
    settings: stored.load_in_8bit ? settingsInt8(stored) : settings4bit(stored),
    computeDtype: TORCH_DTYPES[stored.bnb_4bit_compute_dtype as string] as FloatDType,
    hasFp16Weight: stored.llm_int8_has_fp16_weight === true,
    skipModules,
    unknownKeys: Object.keys(given).filter((key) => !(key in FIELDS) && !NOT_READ.includes(key)),
    stored: {
      ...stored,
      _load_in_4bit: stored.load_in_4bit,
      _load_in_8bit: stored.load_in_8bit,
      quant_method: 'bitsandbytes',
    },
  }
}

function settings4bit(stored: JsonObject): Settings4bit {
  return {
    kind: '4bit',
    quantType: stored.bnb_4bit_quant_type as 'nf4' | 'fp4',
    blockSize: BLOCK_SIZE,
    doubleQuant: stored.bnb_4bit_use_double_quant === true,
    storage: TORCH_DTYPES[stored.bnb_4bit_quant_storage as string],
  }
}

function settingsInt8(stored: JsonObject): SettingsInt8 {
  return { kind: 'int8', outlierThreshold: (stored.llm_int8_threshold as JsonNumber).value }
}

/** What `--type` and `--bits` stand for. */
const TYPES: Readonly<Record<string, { readonly bits: number; readonly keys: JsonObject }>> = {
  nf4: { bits: 4, keys: { load_in_4bit: true, bnb_4bit_quant_type: 'nf4' } },
  fp4: { bits: 4, keys: { load_in_4bit: true, bnb_4bit_quant_type: 'fp4' } },
  int8: { bits: 8, keys: { load_in_8bit: true } },
}
const TYPE_OF_BITS: Readonly<Record<number, string>> = { 4: 'nf4', 8: 'int8' }

/**
 * The quantization_config that flags stand for. `--bits 4` is nf4, `--bits 8` LLM.int8, `--type` nf4, fp4 or int8; every other flag is
 * a config key in kebab-case (or camelCase, from the library). Throws ConfigError.
 */
export function fromFlags(flags: MethodFlags): JsonObject {
  const { bits, groupSize, type, ...others } = flags
  if (groupSize !== undefined && groupSize !== null && groupSize !== BLOCK_SIZE)
    throw new ConfigError(`groupSize is ${groupSize}: bitsandbytes quantises in blocks of ${BLOCK_SIZE}`, {
      key: 'groupSize',
      actual: groupSize,
    })
  const keys: JsonObject = {}
  for (const [flag, value] of Object.entries(others)) if (value !== undefined) addKey(keys, flag, value)
  return { quant_method: 'bitsandbytes', ...typeKeys(bits, type, keys), ...keys }
}

function typeKeys(bits: number | undefined, type: string | undefined, keys: JsonObject): JsonObject {
  if (type === undefined && bits === undefined) {
    if ('load_in_4bit' in keys || 'load_in_8bit' in keys) return {}
    return 'bnb_4bit_quant_type' in keys ? { load_in_4bit: true } : TYPES.nf4.keys
  }
  const name = type ?? TYPE_OF_BITS[bits!]
  if (name === undefined)
    throw new ConfigError(`bits is ${bits}: bitsandbytes has 4 (nf4, fp4) and 8 (int8)`, { key: 'bits', actual: bits })
  const known = Object.hasOwn(TYPES, name) ? TYPES[name] : undefined
  if (!known)
    throw new ConfigError(`type is "${name}": bitsandbytes has ${Object.keys(TYPES).join(', ')}`, {
      key: 'type',
      actual: name,
    })
  if (bits !== undefined && bits !== known.bits)
    throw new ConfigError(`type "${name}" has ${known.bits} bits, bits is ${bits}`, { key: 'bits', actual: bits })
  return known.keys
}

function addKey(keys: JsonObject, flag: string, value: unknown): void {
  const key = keyOfFlag(flag, 'bitsandbytes', Object.keys(FIELDS))
  if (typeof value === 'string') keys[key] = checked(key, FIELDS[key].fromText(value))
  else keys[key] = checked(key, typeof value === 'number' ? new JsonNumber(pythonFloat(value)) : (value as Json))
}
