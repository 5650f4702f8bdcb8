// quantization_config of HQQ: one setting for all layers, one a tag (dynamic), or the flat form of old files; stored as transformers does.
import { ConfigError } from '../../core/errors.ts'
import { fromPlain, isJsonObject, type Json, type JsonObject } from '../../core/json.ts'
import { PACKINGS, type Packing } from '../../weights/packing.ts'
import { asNumber, ConfigKeys, flag, names, number, orDefault, orNull } from '../fields.ts'
import { valueOfText } from '../flags.ts'
import type { MethodFlags } from '../types.ts'

export const SKIP_KEY = 'skip_modules'
/** Packing of each legal number of bits; 1.58 stands for three levels. */
export const PACKING_OF_BITS: ReadonlyMap<number, Packing> = new Map<number, Packing>([
  [8, PACKINGS.hqq8],
  [6, PACKINGS.hqq8],
  [5, PACKINGS.hqq8],
  [4, PACKINGS.hqq4],
  [3, PACKINGS.hqq3],
  [2, PACKINGS.hqq2],
  [1.58, PACKINGS.hqq2],
  [1, PACKINGS.hqq1],
])

/** How one weight is quantised and stored. */
export interface HqqSettings {
  /** 8, 6, 5, 4, 3, 2, 1.58 or 1. */
  readonly bits: number
  readonly packing: Packing
  /** Weights that share a scale; null: a row (axis 1) or a column (axis 0). */
  readonly groupSize: number | null
  /** Dimension of the regrouped matrix that a group runs along: 1 rows, 0 columns. */
  readonly axis: 0 | 1
  /** False: one scale for the whole tensor, without the optimiser. */
  readonly channelWise: boolean
  readonly optimize: boolean
  /** Round the first zero point, before the optimiser moves it. */
  readonly roundZero: boolean
  /** Store the packed bytes as elements of the compute dtype. */
  readonly viewAsFloat: boolean
  /** Kept for the file only. */
  readonly offloadMeta: boolean
}

export interface Hqq {
  /** Of every quantised linear, or by tag (`mlp.up_proj`); a linear whose tag is not there stays float. */
  readonly settings: HqqSettings | ReadonlyMap<string, HqqSettings>
  /** A module is skipped where an entry occurs anywhere in its full name. */
  readonly skipModules: readonly string[]
  readonly warnings: readonly string[]
  /** Every key as it is to be stored. */
  readonly stored: JsonObject
}

/** Keys of `weight_quant_params`. */
const WEIGHT_FIELDS = {
  nbits: number(4, [...PACKING_OF_BITS.keys()].join(', '), (n) => PACKING_OF_BITS.has(n), 'bits a weight (--bits)'),
  group_size: orNull(
    number(
      64,
      'a multiple of 8, or null for whole rows or columns',
      (n) => n > 0 && Number.isSafeInteger(n) && n % 8 === 0,
      'weights that share a scale and a zero point (--group-size)',
    ),
    'a multiple of 8, or null for whole rows or columns',
  ),
  axis: number(1, '0 or 1', (n) => n === 0 || n === 1, 'dimension that a group runs along: 1 rows, 0 columns'),
  channel_wise: flag(true, 'false: one scale for the whole tensor'),
  optimize: flag(true, 'move the zero points so that the error shrinks'),
  round_zero: flag(false, 'round the first zero point; where nothing is said, at 4 bits only'),
  view_as_float: flag(false, 'store the packed bytes as elements of the compute dtype'),
}
const WEIGHT_KEYS = new ConfigKeys('HQQ', WEIGHT_FIELDS)
const KEYS = new ConfigKeys('HQQ', {
  ...WEIGHT_FIELDS,
  [SKIP_KEY]: names(['lm_head'], 'linears that stay float: an entry anywhere in a name skips it'),
  dynamic_config: {
    about: 'settings by layer tag: {"self_attn.q_proj": {"nbits": 4, "group_size": 64}, ...}',
    initial: null,
    expected: 'an object',
    check: (value) => (value === null || isJsonObject(value) ? value : undefined),
    fromText: valueOfText,
  },
  offload_meta: orDefault(flag(false, 'kept for the reference')),
})
export const OPTIONS = KEYS.fields

/** Quantised metadata: ignored by the reference since 0.2, and by fewbit. */
const IGNORED = ['scale_quant_params', 'zero_quant_params', 'quant_scale', 'quant_zero']
const ENTRY_KEYS: readonly string[] = [...WEIGHT_KEYS.names, 'weight_quant_params', 'offload_meta', ...IGNORED]

const ofTag = (tag: string | undefined) => (tag === undefined ? '' : ` of ${JSON.stringify(tag)}`)

function asObject(key: string, value: Json, tag?: string): JsonObject {
  return isJsonObject(value) ? value : KEYS.refuse(key, value, 'an object', { where: ofTag(tag) })
}

interface Entry {
  readonly settings: HqqSettings
  readonly stored: JsonObject
}

/** One setting, nested or flat, with all defaults filled in. */
function parseEntry(given: JsonObject, tag: string | undefined, warnings: string[]): Entry {
  const isNested = 'weight_quant_params' in given
  const params = isNested ? asObject('weight_quant_params', given.weight_quant_params, tag) : given
  const where = ofTag(tag)
  for (const key of new Set([...Object.keys(given), ...Object.keys(params)]))
    if (!ENTRY_KEYS.includes(key)) warnings.push(`"${key}"${where} is no key of HQQ: it is not stored`)
  for (const key of IGNORED)
    if (given[key]) warnings.push(`"${key}"${where}: scales and zeros are no longer quantised, it is ignored`)
  const nbits = WEIGHT_KEYS.value(params, 'nbits', where)
  const defaults: JsonObject = { round_zero: asNumber(nbits) === 4 }
  const weight: JsonObject = {}
  for (const key of WEIGHT_KEYS.names) weight[key] = WEIGHT_KEYS.value({ ...defaults, ...params }, key, where)
  const offload = KEYS.value(given, 'offload_meta', where) as boolean
  return {
    settings: settingsOf(weight, offload),
    stored: {
      offload_meta: offload,
      scale_quant_params: null,
      weight_quant_params: weight,
      zero_quant_params: null,
    },
  }
}

function settingsOf(weight: JsonObject, offloadMeta: boolean): HqqSettings {
  const bits = asNumber(weight.nbits)
  return {
    bits,
    packing: PACKING_OF_BITS.get(bits)!,
    groupSize: weight.group_size === null ? null : asNumber(weight.group_size),
    axis: asNumber(weight.axis) as 0 | 1,
    channelWise: weight.channel_wise === true,
    optimize: weight.optimize === true,
    roundZero: weight.round_zero === true,
    viewAsFloat: weight.view_as_float === true,
    offloadMeta,
  }
}

/** The value of `quant_config`, also where the constructor's arguments stand at the top level instead. */
function quantConfigOf(given: JsonObject): JsonObject {
  if (given.quant_config !== undefined) return asObject('quant_config', given.quant_config)
  if (given.dynamic_config !== undefined && given.dynamic_config !== null)
    return asObject('dynamic_config', given.dynamic_config)
  return Object.fromEntries(Object.entries(given).filter(([key]) => ENTRY_KEYS.includes(key)))
}

/** A map from tags holds objects only; a setting holds other values too, or the key of the nested form. */
function isByTag(config: JsonObject): boolean {
  const values = Object.values(config)
  return values.length > 0 && !('weight_quant_params' in config) && values.every(isJsonObject)
}

/** Parses a quantization_config as it stands in a config.json. Throws ConfigError naming the key. */
export function parseConfig(given: JsonObject): Hqq {
  const warnings: string[] = []
  const top = ['quant_config', 'quant_method', SKIP_KEY, 'dynamic_config']
  for (const key of Object.keys(given))
    if (!top.includes(key) && (given.quant_config !== undefined || !ENTRY_KEYS.includes(key)))
      warnings.push(`"${key}" is no key of HQQ: it is not stored`)
  const skip = KEYS.value(given, SKIP_KEY) as string[]
  const { settings, stored } = parseSettings(quantConfigOf(given), warnings)
  return {
    settings,
    skipModules: skip,
    warnings,
    stored: { quant_config: stored, quant_method: 'hqq', [SKIP_KEY]: skip },
  }
}

function parseSettings(config: JsonObject, warnings: string[]): { settings: Hqq['settings']; stored: JsonObject } {
  if (!isByTag(config)) return parseEntry(config, undefined, warnings)
  const settings = new Map<string, HqqSettings>()
  const stored: JsonObject = {}
  for (const [tag, value] of Object.entries(config)) {
    const entry = parseEntry(value as JsonObject, tag, warnings)
    settings.set(tag, entry.settings)
    stored[tag] = entry.stored
  }
  return { settings, stored }
}

/**
 * The quantization_config that flags stand for: `--bits`, `--group-size` (`null` for whole rows), and the config's own keys in
 * kebab-case or camelCase. Throws ConfigError.
 */
export function fromFlags(flags: MethodFlags): JsonObject {
  const { bits, type, ...others } = flags
  if (type !== undefined)
    throw new ConfigError(`type is "${type}": HQQ has no types`, { key: 'type', actual: type, hint: '--bits 4' })
  const given: JsonObject = {}
  if (bits !== undefined) given.nbits = fromPlain(bits)
  Object.assign(given, KEYS.fromFlags(others))
  return parseConfig(given).stored
}
