// quantization_config of EETQ (EetqConfig): int8 and a skip list. Two keys are fewbit's own and never stored: no file has room for them.
import { ConfigError } from '../../core/errors.ts'
import type { JsonObject } from '../../core/json.ts'
import { PACKINGS, type Packing } from '../../weights/packing.ts'
import { ConfigKeys, choice, flag, names, orNull } from '../fields.ts'
import { skipList } from '../skip.ts'
import type { MethodFlags } from '../types.ts'

export const SKIP_KEY = 'modules_to_not_convert'

/** Byte orders of the files, by the GPU generation whose kernels read them: compute capability 7.5 to 8.9, and 7.0 to 7.4 (Volta). */
export const ARRANGEMENTS: Readonly<Record<string, Packing>> = { sm80: PACKINGS.eetqSm80, sm70: PACKINGS.eetqSm70 }

/** How one weight is quantised and stored. */
export interface EetqSettings {
  readonly packing: Packing
  /** Give NaN and infinity the codes that the reference gives them, instead of refusing. */
  readonly allowNonFinite: boolean
}

export interface Eetq {
  readonly settings: EetqSettings
  /** Patterns, or null for the automatic list. */
  readonly skipModules: readonly string[] | null
  readonly warnings: readonly string[]
}

const KEYS = new ConfigKeys('EETQ', {
  weights: choice('int8', ['int8'], 'the only type there is'),
  [SKIP_KEY]: orNull(names(null, 'linears that stay float: patterns that replace the automatic list')),
  arrangement: choice(
    'sm80',
    Object.keys(ARRANGEMENTS),
    'byte order of the file: sm80 for GPUs from 7.5 on, sm70 for Volta; never stored',
  ),
  allow_non_finite: flag(
    false,
    'give NaN and infinity the codes that the reference gives them, instead of refusing; never stored',
  ),
})

export const OPTIONS = KEYS.fields

/** Parses a quantization_config as it stands in a config.json. Throws ConfigError naming the key. */
export function parseConfig(given: JsonObject): Eetq {
  const values = KEYS.values(given)
  const skipModules = values[SKIP_KEY] as readonly string[] | null
  if (skipModules) skipList(skipModules, SKIP_KEY) // a bad pattern is refused before any work
  return {
    settings: {
      packing: ARRANGEMENTS[values.arrangement as string],
      allowNonFinite: values.allow_non_finite === true,
    },
    skipModules,
    warnings: KEYS.unknown(given, ['quant_method'], 'not stored'),
  }
}

/** The quantization_config that flags stand for; bits, type and groupSize may only say what EETQ is. Throws ConfigError. */
export function fromFlags(flags: MethodFlags): JsonObject {
  const { bits, type, groupSize, ...others } = flags
  if (bits !== undefined && bits !== 8)
    throw new ConfigError(`bits is ${bits}: EETQ has 8`, { key: 'bits', actual: bits, expected: 8 })
  if (groupSize !== undefined && groupSize !== null)
    throw new ConfigError(`groupSize is ${groupSize}: EETQ has one scale for each output feature`, {
      key: 'groupSize',
      actual: groupSize,
      hint: '--group-size none, or leave it out',
    })
  const keys: JsonObject = {
    [SKIP_KEY]: null,
    quant_method: 'eetq',
    weights: type ?? 'int8',
    ...KEYS.fromFlags(others),
  }
  parseConfig(keys)
  return keys
}
