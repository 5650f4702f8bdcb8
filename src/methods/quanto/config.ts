// quantization_config of Quanto: transformers' QuantoConfig, optimum-quanto's own arguments (optimizer, include, exclude), or the modules
// that a quanto_qmap.json names. Nothing of it is stored in a config.json.
import { ConfigError } from '../../core/errors.ts'
import { isJsonObject, type Json, type JsonObject, toPlain } from '../../core/json.ts'
import { ConfigKeys, choice, type Field, flag, names, number, orNull } from '../fields.ts'
import { skipList } from '../skip.ts'
import type { MethodFlags } from '../types.ts'
import { QTYPE_NAMES, QTYPES, type QType, qtypeNamed } from './qtypes.ts'

export const SKIP_KEY = 'modules_to_not_convert'
export const QMAP_FILE = 'quanto_qmap.json'

/** How one weight is quantised and stored. */
export interface QuantoSettings {
  readonly qtype: QType
  /** Type of the linear's input, quantised with one scale. */
  readonly activations: QType | null
  /** How scale and shift are found: from the range of each group, or moved as HQQ moves its zero point. */
  readonly optimizer: 'range' | 'hqq'
  /** Store the shift of bfloat16 groups of 128 as torch's int4 kernel leaves it: rounded twice. */
  readonly tinygemm: boolean
}

/** What quanto_qmap.json says of a module. */
export interface QuantizedModule {
  readonly weights: QType | null
  readonly activations: QType | null
}

export interface Quanto {
  readonly settings: QuantoSettings
  /** Momentum of the scales of outputs while activations are calibrated; those of inputs have 0.9. */
  readonly momentum: number
  /** Patterns, or null for the automatic list. */
  readonly skipModules: readonly string[] | null
  /** Shell patterns of full module names; with either of them nothing is skipped by itself, not even the head. */
  readonly include: readonly string[] | null
  readonly exclude: readonly string[] | null
  /** The modules of a quantised folder; undefined where there is no map. */
  readonly modules: ReadonlyMap<string, QuantizedModule> | undefined
  readonly warnings: readonly string[]
}

const typeNames = [...QTYPE_NAMES, 'float8']
const type = (initial: string, isLegal: (type: QType) => boolean, about: string): Field => {
  const find = (value: Json) => (typeof value === 'string' ? qtypeNamed(value) : undefined)
  const legal = typeNames.filter((name) => isLegal(qtypeNamed(name)!))
  const check = (value: Json) => (find(value) && isLegal(find(value)!) ? value : undefined)
  return { about, initial, expected: legal.join(', '), check, fromText: (text) => text }
}
const activations = type(
  'int8',
  ({ bits }) => bits === 8,
  "type of the linears' inputs, one scale each: found by calibration",
)

const patterns = (about: string): Field => {
  const list = names(null, about)
  const expected = 'null, a pattern or a list of patterns'
  return orNull({ ...list, check: (value) => (typeof value === 'string' ? value : list.check(value)) }, expected)
}

const KEYS = new ConfigKeys('Quanto', {
  weights: type('int8', () => true, 'type of the weights (--bits, --type)'),
  activations: { ...orNull(activations, `null, ${activations.expected}`), initial: null },
  momentum: number(
    0.9,
    'a number from 0 to below 1',
    (value) => value >= 0 && value < 1,
    'momentum of the scales of outputs while activations are calibrated; those of inputs have 0.9',
  ),
  [SKIP_KEY]: orNull(names(null, 'linears that stay float: patterns that replace the automatic list')),
  optimizer: orNull(
    {
      ...choice('max', ['max', 'absmax', 'hqq'], 'how scales are found: from the range, or shifts moved as HQQ does'),
      initial: null,
    },
    'null, "max", "absmax" or "hqq"',
  ),
  include: patterns('shell patterns of the modules to quantise'),
  exclude: patterns('shell patterns of modules that stay float'),
  tinygemm: flag(false, 'the twice rounded shift that the reference stores for bfloat16 groups of 128'),
})

export const OPTIONS = KEYS.fields

/** Parses a quantization_config as it stands in a config.json, or as `markerConfig` makes it. Throws ConfigError naming the key. */
export function parseConfig(given: JsonObject): Quanto {
  const values = KEYS.values(given)
  const qtype = qtypeNamed(values.weights as string)!
  const skipModules = values[SKIP_KEY] as readonly string[] | null
  if (skipModules) skipList(skipModules, SKIP_KEY) // a bad pattern is refused before any work
  if (values.activations === null && given.momentum !== undefined)
    KEYS.refuse('momentum', given.momentum, 'none: no "activations" are calibrated', {
      hint: 'add "activations": "int8"',
    })
  const include = patternsOf(values.include)
  const exclude = patternsOf(values.exclude)
  if (skipModules && (include || exclude))
    throw new ConfigError(
      `quantization_config of Quanto: "${SKIP_KEY}" and "include" or "exclude" exclude each other`,
      {
        key: SKIP_KEY,
        hint: `"exclude" takes shell patterns ("*.down_proj"), "${SKIP_KEY}" names`,
      },
    )
  return {
    settings: {
      qtype,
      activations: values.activations === null ? null : qtypeNamed(values.activations as string)!,
      optimizer: optimizerOf(values.optimizer, qtype),
      tinygemm: values.tinygemm === true,
    },
    momentum: toPlain(values.momentum) as number,
    skipModules,
    include,
    exclude,
    modules: given.modules === undefined ? undefined : parseModules(given.modules),
    warnings: KEYS.unknown(given, ['quant_method', 'modules'], 'ignored'),
  }
}

function patternsOf(value: Json): readonly string[] | null {
  return typeof value === 'string' ? [value] : (value as readonly string[] | null)
}

/** `max` means what the type has by default, as in "the plain one"; `absmax` and `hqq` belong to one kind of type each. */
function optimizerOf(value: Json, { name, kind }: QType): 'range' | 'hqq' {
  if (value === 'hqq' && kind !== 'affine')
    KEYS.refuse('optimizer', value, `"absmax" for ${name}: HQQ moves the shift of 2 and 4 bits, others have none`)
  if (value === 'absmax' && kind === 'affine') KEYS.refuse('optimizer', value, `"max" or "hqq" for ${name}`)
  return value === 'hqq' ? 'hqq' : 'range'
}

/** What the files do not say: the optimiser, and how activations were calibrated. */
export function fingerprint({ settings, momentum }: Quanto): unknown {
  return [settings, momentum]
}

/** The content of quanto_qmap.json as a quantization_config. */
export function markerConfig(content: JsonObject): JsonObject {
  return { quant_method: 'quanto', modules: content }
}

function parseModules(content: Json): Map<string, QuantizedModule> {
  if (!isJsonObject(content)) return KEYS.refuse('modules', content, 'an object')
  return new Map(
    Object.entries(content).map(([module, entry]) => {
      if (!isJsonObject(entry)) return KEYS.refuse(module, entry, 'an object with "weights" and "activations"')
      return [
        module,
        { weights: mapType(module, entry, 'weights'), activations: mapType(module, entry, 'activations') },
      ]
    }),
  )
}

function mapType(module: string, entry: JsonObject, key: 'weights' | 'activations'): QType | null {
  const value = entry[key]
  if (value === 'none') return null
  const type = typeof value === 'string' ? QTYPES.get(value) : undefined
  if (type && (key === 'weights' || type.bits === 8)) return type
  const plain = value === undefined ? undefined : toPlain(value)
  throw new ConfigError(
    `${QMAP_FILE}: "${key}" of "${module}" is ${JSON.stringify(plain)}, expected "none" or one of ${[...QTYPES.keys()].join(', ')}`,
    { key: module, actual: plain, expected: [...QTYPES.keys()] },
  )
}

const TYPE_OF_BITS: Readonly<Record<number, string>> = { 2: 'int2', 4: 'int4', 8: 'int8' }

/** The quantization_config that flags stand for: `--bits`, `--type`, and the config's keys in kebab-case or camelCase. Throws ConfigError. */
export function fromFlags(flags: MethodFlags): JsonObject {
  const { bits, type, groupSize, ...others } = flags
  if (groupSize !== undefined && groupSize !== null)
    throw new ConfigError(`groupSize is ${groupSize}: Quanto's follows from the shape (128, 96, 64, 32 or a row)`, {
      key: 'groupSize',
      actual: groupSize,
      hint: 'leave it out; readers compute it, no file says it',
    })
  const keys: JsonObject = { quant_method: 'quanto', ...KEYS.fromFlags(others) }
  const weights = typeName(bits, type)
  if (weights !== undefined) keys.weights = weights
  parseConfig(keys)
  return keys
}

function typeName(bits: number | undefined, type: string | undefined): string | undefined {
  const named = bits === undefined ? undefined : TYPE_OF_BITS[bits]
  if (bits !== undefined && !named)
    throw new ConfigError(`bits is ${bits}: Quanto has 2, 4 and 8`, { key: 'bits', actual: bits, expected: [2, 4, 8] })
  if (type !== undefined && bits !== undefined && qtypeNamed(type) && qtypeNamed(type)!.bits !== bits)
    throw new ConfigError(`type "${type}" has ${qtypeNamed(type)!.bits} bits, bits is ${bits}`, { key: 'bits' })
  return type ?? named
}
