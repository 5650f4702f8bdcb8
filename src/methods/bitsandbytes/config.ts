// quantization_config of bitsandbytes (BitsAndBytesConfig): defaults, legal values, the reference's spelling when stored.
import { ConfigError } from '../../core/errors.ts'
import { fromPlain, type Json, JsonNumber, type JsonObject, type PlainObject, toPlain } from '../../core/json.ts'
import type { MethodFlags } from '../types.ts'

export interface BitsAndBytesSettings {
  readonly quantType: 'nf4' | 'fp4'
  readonly blockSize: number
}

export interface BitsAndBytes {
  readonly quantType: 'nf4' | 'fp4'
  /** Patterns, or null for the automatic list. */
  readonly skipModules: readonly string[] | null
  /** Every key as it is to be stored. */
  readonly stored: JsonObject
}

const DEFAULTS: Record<string, Json> = {
  _load_in_4bit: false,
  _load_in_8bit: false,
  bnb_4bit_compute_dtype: 'float32',
  bnb_4bit_quant_storage: 'uint8',
  bnb_4bit_quant_type: 'fp4',
  bnb_4bit_use_double_quant: false,
  llm_int8_enable_fp32_cpu_offload: false,
  llm_int8_has_fp16_weight: false,
  llm_int8_skip_modules: null,
  llm_int8_threshold: new JsonNumber('6.0'),
  load_in_4bit: false,
  load_in_8bit: false,
  quant_method: 'bitsandbytes',
}

export function parseConfig(stored: JsonObject): BitsAndBytes {
  const full: JsonObject = { ...DEFAULTS }
  for (const key of Object.keys(DEFAULTS)) if (stored[key] !== undefined) full[key] = stored[key]
  full._load_in_4bit = full.load_in_4bit
  full._load_in_8bit = full.load_in_8bit
  const plain = toPlain(full) as PlainObject
  if (plain.load_in_4bit !== true)
    throw new ConfigError('quantization_config of bitsandbytes: "load_in_4bit" is not true', { key: 'load_in_4bit' })
  const type = plain.bnb_4bit_quant_type
  if (type !== 'nf4' && type !== 'fp4') {
    throw new ConfigError(
      `quantization_config of bitsandbytes: "bnb_4bit_quant_type" is ${JSON.stringify(type)}, expected "nf4" or "fp4"`,
      { key: 'bnb_4bit_quant_type', actual: type },
    )
  }
  return { quantType: type, skipModules: plain.llm_int8_skip_modules as string[] | null, stored: full }
}

export function fromFlags(flags: MethodFlags): JsonObject {
  const type = flags.type ?? 'nf4'
  return fromPlain({ quant_method: 'bitsandbytes', load_in_4bit: true, bnb_4bit_quant_type: type }) as JsonObject
}
