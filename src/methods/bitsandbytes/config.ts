// quantization_config of bitsandbytes (BitsAndBytesConfig): defaults, legal values, the reference's spelling when stored.
import { type DType, type FloatDType, TORCH_DTYPES } from '../../core/dtypes.ts'
import { ConfigError } from '../../core/errors.ts'
import { JsonNumber, type JsonObject, pythonFloat } from '../../core/json.ts'
import { ConfigKeys, choice, type Field, flag, names, number, orDefault, orNull } from '../fields.ts'
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
  readonly warnings: readonly string[]
  /** Every key as it is to be stored. */
  readonly stored: JsonObject
}

/** Short names that people type, for hints. */
const LONG_NAMES: Readonly<Record<string, string>> = {
  bf16: 'bfloat16',
  fp16: 'float16',
  f16: 'float16',
  half: 'float16',
  fp32: 'float32',
  f32: 'float32',
}

/** A torch dtype. */
const dtype = (initial: string, legal: readonly string[], about: string): Field => ({
  ...orDefault(choice(initial, legal, about)),
  hint: (value) => (Object.hasOwn(LONG_NAMES, String(value)) ? `write "${LONG_NAMES[String(value)]}"` : undefined),
})

const threshold = number(
  new JsonNumber('6.0'),
  'a number from 0 on',
  (n) => n >= 0 && Number.isFinite(n),
  'LLM.int8: activations of at least this size are multiplied unquantised; 0: none are',
)

/** In the reference's (alphabetical) order. */
const KEYS = new ConfigKeys('bitsandbytes', {
  bnb_4bit_compute_dtype: dtype(
    'float32',
    ['float32', 'bfloat16', 'float16'],
    'dtype that the reference computes in; kept for its files',
  ),
  bnb_4bit_quant_storage: dtype('uint8', STORAGE_DTYPES, 'dtype of the tensor that carries the packed codes'),
  bnb_4bit_quant_type: choice(
    'fp4',
    ['fp4', 'nf4'],
    'the 16 levels: 4-bit floats, or quantiles of a normal distribution',
  ),
  bnb_4bit_use_double_quant: flag(false, 'scales become 8-bit codes themselves: 0.4 bits a weight less'),
  llm_int8_enable_fp32_cpu_offload: flag(false, 'kept for the reference'),
  llm_int8_has_fp16_weight: flag(false, 'LLM.int8 that keeps its float weights; read, never made'),
  [SKIP_KEY]: orNull(names(null, 'linears that stay float: patterns that replace the automatic list')),
  llm_int8_threshold: {
    ...threshold,
    check(value) {
      const legal = threshold.check(value) as JsonNumber | undefined
      return legal && /^\d+$/.test(legal.text) ? new JsonNumber(pythonFloat(legal.value)) : legal // 6 is stored as 6.0
    },
    fromText: (text) => (text.trim() !== '' && Number.isFinite(Number(text)) ? new JsonNumber(text.trim()) : text),
  },
  load_in_4bit: flag(false, '4-bit weights (--bits 4)'),
  load_in_8bit: flag(false, 'LLM.int8 (--bits 8)'),
})

export const OPTIONS = KEYS.fields

/** Duplicates of load_in_* that are written and never read. */
const NOT_READ = ['_load_in_4bit', '_load_in_8bit', 'quant_method']

/** Parses a quantization_config as it stands in a config.json. Throws ConfigError naming the key. */
export function parseConfig(given: JsonObject): BitsAndBytes {
  const stored: JsonObject = KEYS.values(given)
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
    warnings: KEYS.unknown(given, NOT_READ, 'not stored'),
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
  const keys = KEYS.fromFlags(others)
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
