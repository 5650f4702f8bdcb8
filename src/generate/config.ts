// Generation settings: what they are called, which values are legal, and how a call, generation_config.json and defaults combine.
import { ConfigError } from '../core/errors.ts'

/** Settings of one call or of generation_config.json, in camelCase. `null` or absent: not set. */
export interface GenerationSettings {
  /** Tokens to add at most; wins over `maxLength`. With neither, 20 tokens are added. */
  readonly maxNewTokens?: number | null
  /** Prompt and new tokens together, at most. */
  readonly maxLength?: number | null
  readonly minNewTokens?: number | null
  readonly minLength?: number | null
  readonly doSample?: boolean | null
  readonly temperature?: number | null
  readonly topK?: number | null
  readonly topP?: number | null
  readonly topH?: number | null
  readonly minP?: number | null
  readonly typicalP?: number | null
  readonly epsilonCutoff?: number | null
  readonly etaCutoff?: number | null
  readonly repetitionPenalty?: number | null
  readonly noRepeatNgramSize?: number | null
  readonly badWordsIds?: readonly (readonly number[])[] | null
  readonly suppressTokens?: readonly number[] | null
  readonly beginSuppressTokens?: readonly number[] | null
  /** [ids, bias]: the bias is added to the last id wherever the others come before it. */
  readonly sequenceBias?: readonly (readonly [readonly number[], number])[] | null
  /** [start, factor]: from `start` new tokens on, end tokens become more likely by `factor` a token. */
  readonly exponentialDecayLengthPenalty?: readonly [number, number] | null
  readonly forcedBosTokenId?: number | null
  readonly forcedEosTokenId?: number | readonly number[] | null
  readonly removeInvalidValues?: boolean | null
  readonly renormalizeLogits?: boolean | null
  readonly numBeams?: number | null
  readonly numReturnSequences?: number | null
  readonly lengthPenalty?: number | null
  readonly earlyStopping?: boolean | 'never' | null
  readonly bosTokenId?: number | null
  readonly eosTokenId?: number | readonly number[] | null
  readonly padTokenId?: number | null
  readonly stopStrings?: string | readonly string[] | null
}

/** Settings with every default filled in. */
export interface GenerationConfig extends GenerationSettings {
  readonly doSample: boolean
  readonly numBeams: number
  readonly numReturnSequences: number
  readonly lengthPenalty: number
  readonly earlyStopping: boolean | 'never'
  /** All end ids, in order. */
  readonly eosIds: readonly number[]
  readonly stops: readonly string[]
}

type Key = keyof GenerationSettings
type Rule = readonly [legal: (value: unknown) => boolean, expected: string]

const isNumber = (v: unknown): v is number => typeof v === 'number' && Number.isFinite(v)
const isNatural = (v: unknown): boolean => Number.isSafeInteger(v) && (v as number) >= 0
const isIds = (v: unknown): boolean => Array.isArray(v) && v.every(isNatural)
const isPair = (v: unknown, first: (x: unknown) => boolean): boolean =>
  Array.isArray(v) && v.length === 2 && first(v[0]) && isNumber(v[1])

const boolean: Rule = [(v) => typeof v === 'boolean', 'true or false']
const natural: Rule = [isNatural, 'a whole number from 0 on']
const positive: Rule = [(v) => isNatural(v) && v !== 0, 'a whole number from 1 on']
const above0: Rule = [(v) => isNumber(v) && v > 0, 'a number above 0']
const fraction: Rule = [(v) => isNumber(v) && v >= 0 && v <= 1, 'a number from 0 to 1']
const ids: Rule = [isIds, 'a list of token ids']
const idOrIds: Rule = [(v) => isNatural(v) || isIds(v), 'a token id or a list of them']
const number: Rule = [isNumber, 'a number']

const RULES: Readonly<Record<Key, Rule>> = {
  maxNewTokens: positive,
  maxLength: positive,
  minNewTokens: natural,
  minLength: natural,
  doSample: boolean,
  temperature: above0,
  topK: natural,
  topP: fraction,
  topH: fraction,
  minP: fraction,
  typicalP: fraction,
  epsilonCutoff: fraction,
  etaCutoff: fraction,
  repetitionPenalty: above0,
  noRepeatNgramSize: natural,
  badWordsIds: [(v) => Array.isArray(v) && v.every((w) => isIds(w) && w.length > 0), 'a list of lists of token ids'],
  suppressTokens: ids,
  beginSuppressTokens: ids,
  sequenceBias: [(v) => Array.isArray(v) && v.every((e) => isPair(e, isIds)), 'a list of [ids, bias]'],
  exponentialDecayLengthPenalty: [(v) => isPair(v, isNatural), '[start, factor]'],
  forcedBosTokenId: natural,
  forcedEosTokenId: idOrIds,
  removeInvalidValues: boolean,
  renormalizeLogits: boolean,
  numBeams: positive,
  numReturnSequences: positive,
  lengthPenalty: number,
  earlyStopping: [(v) => typeof v === 'boolean' || v === 'never', 'true, false or "never"'],
  bosTokenId: natural,
  eosTokenId: idOrIds,
  padTokenId: [(v) => Number.isSafeInteger(v), 'a token id'],
  stopStrings: [
    (v) => typeof v === 'string' || (Array.isArray(v) && v.every((s) => typeof s === 'string')),
    'a text or a list of texts',
  ],
}

/** Keys of generation_config.json that would change the text and that fewbit does not have, with the values that do nothing. */
const UNSUPPORTED: Readonly<Record<string, readonly unknown[]>> = {
  guidance_scale: [1],
  encoder_repetition_penalty: [1],
  diversity_penalty: [0],
  num_beam_groups: [1],
  penalty_alpha: [0],
  dola_layers: [],
  watermarking_config: [],
  prompt_lookup_num_tokens: [],
  constraints: [],
  force_words_ids: [],
}

const snakeCase = (key: string) => key.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`)

function check(key: Key, value: unknown, name: string, where: string): void {
  const [legal, expected] = RULES[key]
  if (!legal(value))
    throw new ConfigError(`Cannot use ${where}: "${name}" is ${JSON.stringify(value)}, expected ${expected}`, {
      key: name,
      actual: value,
      expected,
    })
}

/** Reads generation_config.json (a plain object): known keys in camelCase, and a warning for each that cannot be followed. */
export function readGenerationConfig(stored: Readonly<Record<string, unknown>>): {
  settings: GenerationSettings
  warnings: string[]
} {
  const settings: Record<string, unknown> = {}
  for (const key of Object.keys(RULES) as Key[]) {
    const value = stored[snakeCase(key)]
    if (value === undefined || value === null) continue
    check(key, value, snakeCase(key), 'generation_config.json')
    settings[key] = value
  }
  const warnings = Object.entries(UNSUPPORTED)
    .filter(([key, neutral]) => stored[key] !== undefined && stored[key] !== null && !neutral.includes(stored[key]))
    .map(([key]) => `generation_config.json asks for "${key}", which fewbit does not have: it is ignored`)
  return { settings, warnings }
}

/** Combines settings: the call wins over the model's, key by key; then defaults. Throws ConfigError. */
export function resolveSettings(call: GenerationSettings, model: GenerationSettings = {}): GenerationConfig {
  const merged: Record<string, unknown> = {}
  for (const key of Object.keys(RULES) as Key[]) {
    // An explicit null of the call switches the model's setting off; for `topK` it is a value of its own.
    const value = call[key] !== undefined ? call[key] : model[key]
    if (call[key] !== undefined && value !== null) check(key, value, key, 'the generation options')
    if (value !== undefined && (value !== null || key === 'topK')) merged[key] = value
  }
  const settings = merged as GenerationSettings
  const { eosTokenId: eos, stopStrings: stops } = settings
  const config: GenerationConfig = {
    ...settings,
    topK: settings.topK === undefined ? 50 : settings.topK,
    doSample: settings.doSample ?? false,
    numBeams: settings.numBeams ?? 1,
    numReturnSequences: settings.numReturnSequences ?? 1,
    lengthPenalty: settings.lengthPenalty ?? 1,
    earlyStopping: settings.earlyStopping ?? false,
    eosIds: typeof eos === 'number' ? [eos] : (eos ?? []),
    stops: (typeof stops === 'string' ? [stops] : (stops ?? [])).filter((stop) => stop !== ''),
  }
  const most = config.doSample && config.numBeams === 1 ? Number.POSITIVE_INFINITY : config.numBeams
  if (config.numReturnSequences > most)
    throw new ConfigError(
      `Cannot return ${config.numReturnSequences} sequences of ${config.numBeams} beams: raise numBeams, or sample`,
      { numReturnSequences: config.numReturnSequences, numBeams: config.numBeams },
    )
  return config
}
