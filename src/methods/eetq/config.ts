// quantization_config of EETQ (EetqConfig): int8 and a skip list. Two keys are fewbit's own and never stored: no file has room for them.
import { ConfigError } from '../../core/errors.ts'
import { type Json, type JsonObject, toPlain } from '../../core/json.ts'
import { PACKINGS, type Packing } from '../../weights/packing.ts'
import { keysOfFlags, listOfText } from '../flags.ts'
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

const FIELDS: Readonly<Record<string, { readonly expected: string; isLegal(value: Json): boolean }>> = {
  weights: { expected: '"int8"', isLegal: (value) => value === 'int8' },
  [SKIP_KEY]: {
    expected: 'null or a list of strings',
    isLegal: (value) => value === null || (Array.isArray(value) && value.every((v) => typeof v === 'string')),
  },
  arrangement: {
    expected: Object.keys(ARRANGEMENTS).join(', '),
    isLegal: (value) => typeof value === 'string' && Object.hasOwn(ARRANGEMENTS, value),
  },
  allow_non_finite: { expected: 'true or false', isLegal: (value) => typeof value === 'boolean' },
}

/** Keys that a user may set. */
export const OPTIONS: readonly string[] = Object.keys(FIELDS)

/** Parses a quantization_config as it stands in a config.json. Throws ConfigError naming the key. */
export function parseConfig(given: JsonObject): Eetq {
  for (const [key, field] of Object.entries(FIELDS)) {
    if (given[key] === undefined || field.isLegal(given[key])) continue
    const actual = toPlain(given[key])
    throw new ConfigError(
      `quantization_config of EETQ: "${key}" is ${JSON.stringify(actual)}, expected ${field.expected}`,
      { key, actual, expected: field.expected },
    )
  }
  const skipModules = (given[SKIP_KEY] ?? null) as readonly string[] | null
  if (skipModules) skipList(skipModules, SKIP_KEY) // a bad pattern is refused before any work
  return {
    settings: {
      packing: ARRANGEMENTS[(given.arrangement as string | undefined) ?? 'sm80'],
      allowNonFinite: given.allow_non_finite === true,
    },
    skipModules,
    warnings: Object.keys(given)
      .filter((key) => !(key in FIELDS) && key !== 'quant_method')
      .map((key) => `"${key}" is no key of EETQ: it is not stored`),
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
    ...keysOfFlags(others, 'EETQ', OPTIONS, fromText),
  }
  parseConfig(keys)
  return keys
}

/** The value that a command-line word stands for. */
function fromText(key: string, text: string): Json {
  if (key === SKIP_KEY) return text === 'null' ? null : listOfText(text)
  if (key === 'allow_non_finite') return text === 'true' ? true : text === 'false' ? false : text
  return text
}
