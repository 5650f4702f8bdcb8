// quantization_config of Quanto: transformers' QuantoConfig, optimum-quanto's own arguments (optimizer, include, exclude), or the modules
// that a quanto_qmap.json names. Nothing of it is stored in a config.json.
import { ConfigError } from '../../core/errors.ts'
import { isJsonObject, type Json, type JsonObject, toPlain } from '../../core/json.ts'
import { keysOfFlags, listOfText } from '../flags.ts'
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
  /** Patterns, or null for the automatic list. */
  readonly skipModules: readonly string[] | null
  /** Shell patterns of full module names; with either of them nothing is skipped by itself, not even the head. */
  readonly include: readonly string[] | null
  readonly exclude: readonly string[] | null
  /** The modules of a quantised folder; undefined where there is no map. */
  readonly modules: ReadonlyMap<string, QuantizedModule> | undefined
  readonly warnings: readonly string[]
}

const isList = (value: Json) => Array.isArray(value) && value.every((v) => typeof v === 'string')
const typeNames = [...QTYPE_NAMES, 'float8']
const isType = (value: Json, legal: (type: QType) => boolean) =>
  typeof value === 'string' && qtypeNamed(value) !== undefined && legal(qtypeNamed(value)!)

interface Field {
  readonly expected: string
  isLegal(value: Json): boolean
}

const FIELDS: Readonly<Record<string, Field>> = {
  weights: { expected: typeNames.join(', '), isLegal: (value) => isType(value, () => true) },
  activations: {
    expected: `null, ${typeNames.filter((name) => !/int[24]/.test(name)).join(', ')}`,
    isLegal: (value) => value === null || isType(value, ({ bits }) => bits === 8),
  },
  [SKIP_KEY]: { expected: 'null or a list of strings', isLegal: (value) => value === null || isList(value) },
  optimizer: {
    expected: 'null, "max", "absmax" or "hqq"',
    isLegal: (value) => value === null || ['max', 'absmax', 'hqq'].includes(value as string),
  },
  include: { expected: 'null, a pattern or a list of patterns', isLegal: isPatterns },
  exclude: { expected: 'null, a pattern or a list of patterns', isLegal: isPatterns },
  tinygemm: { expected: 'true or false', isLegal: (value) => typeof value === 'boolean' },
}

/** Keys that a user may set. */
export const OPTIONS: readonly string[] = Object.keys(FIELDS)

function isPatterns(value: Json): boolean {
  return value === null || typeof value === 'string' || isList(value)
}

function refuse(key: string, actual: Json, expected: string, hint?: string): never {
  const plain = toPlain(actual)
  throw new ConfigError(`quantization_config of Quanto: "${key}" is ${JSON.stringify(plain)}, expected ${expected}`, {
    key,
    actual: plain,
    expected,
    hint,
  })
}

/** Parses a quantization_config as it stands in a config.json, or as `markerConfig` makes it. Throws ConfigError naming the key. */
export function parseConfig(given: JsonObject): Quanto {
  const value = (key: string, initial: Json) => (given[key] === undefined ? initial : given[key])
  for (const [key, field] of Object.entries(FIELDS))
    if (given[key] !== undefined && !field.isLegal(given[key])) refuse(key, given[key], field.expected)
  const qtype = qtypeNamed(value('weights', 'int8') as string)!
  const activations = value('activations', null)
  const skipModules = value(SKIP_KEY, null) as readonly string[] | null
  if (skipModules) skipList(skipModules, SKIP_KEY) // a bad pattern is refused before any work
  const include = patternsOf(value('include', null))
  const exclude = patternsOf(value('exclude', null))
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
      activations: activations === null ? null : qtypeNamed(activations as string)!,
      optimizer: optimizerOf(value('optimizer', null), qtype),
      tinygemm: given.tinygemm === true,
    },
    skipModules,
    include,
    exclude,
    modules: given.modules === undefined ? undefined : parseModules(given.modules),
    warnings: Object.keys(given)
      .filter((key) => !(key in FIELDS) && key !== 'quant_method' && key !== 'modules')
      .map((key) => `"${key}" is no key of Quanto: it is ignored`),
  }
}

function patternsOf(value: Json): readonly string[] | null {
  return typeof value === 'string' ? [value] : (value as readonly string[] | null)
}

/** `max` means what the type has by default, as in "the plain one"; `absmax` and `hqq` belong to one kind of type each. */
function optimizerOf(value: Json, { name, kind }: QType): 'range' | 'hqq' {
  if (value === 'hqq' && kind !== 'affine')
    refuse('optimizer', value, `"absmax" for ${name}: HQQ moves the shift of 2 and 4 bits, others have none`)
  if (value === 'absmax' && kind === 'affine') refuse('optimizer', value, `"max" or "hqq" for ${name}`)
  return value === 'hqq' ? 'hqq' : 'range'
}

/** The content of quanto_qmap.json as a quantization_config. */
export function markerConfig(content: JsonObject): JsonObject {
  return { quant_method: 'quanto', modules: content }
}

function parseModules(content: Json): Map<string, QuantizedModule> {
  if (!isJsonObject(content)) return refuse('modules', content, 'an object')
  return new Map(
    Object.entries(content).map(([module, entry]) => {
      if (!isJsonObject(entry)) return refuse(module, entry, 'an object with "weights" and "activations"')
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
  const keys: JsonObject = { quant_method: 'quanto', ...keysOfFlags(others, 'Quanto', OPTIONS, fromText) }
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

/** The value that a command-line word stands for. */
function fromText(key: string, text: string): Json {
  if (text === 'null' || text === 'none') return null
  if (key === 'tinygemm') return text === 'true' ? true : text === 'false' ? false : text
  if (key === SKIP_KEY || key === 'include' || key === 'exclude') return listOfText(text)
  return text
}
