// The keys of a quantization_config as data: what each does, its legal values, its default, and the value that a word of the command line
// stands for. Parsing, flags, messages and `fewbit methods NAME` follow from the table.
import { ConfigError } from '../core/errors.ts'
import { fromPlain, type Json, JsonNumber, type JsonObject, type Plain, toPlain } from '../core/json.ts'
import { keyOfFlag, listOfText, valueOfText } from './flags.ts'

/** What people are told of a key. */
export interface OptionInfo {
  /** What it does, in a line. */
  readonly about: string
  /** Legal values, as messages name them. */
  readonly expected: string
  /** Its value where nothing is said. */
  readonly initial: Json
}

export interface Field extends OptionInfo {
  /** The value as it is used and stored, or undefined where it is not legal. */
  check(value: Json): Json | undefined
  /** The value that a word of the command line stands for; one that stands for none stays a string, which `check` refuses. */
  fromText(text: string): Json
  /** What to type instead of a value that is not legal. */
  hint?(value: Json): string | undefined
}

export function flag(initial: boolean, about: string): Field {
  return {
    about,
    initial,
    expected: 'true or false',
    check: (value) => (typeof value === 'boolean' ? value : undefined),
    fromText: (text) => (text === 'true' ? true : text === 'false' ? false : text),
  }
}

/** One of a few words. */
export function choice<T extends string>(initial: T, legal: readonly T[], about: string): Field {
  return {
    about,
    initial,
    expected: legal.map((name) => `"${name}"`).join(', '),
    check: (value) => (legal.includes(value as T) ? value : undefined),
    fromText: (text) => text,
  }
}

/** A number that passes `isLegal`; `expected` says in words which do. */
export function number(
  initial: number | JsonNumber,
  expected: string,
  isLegal: (value: number) => boolean,
  about: string,
): Field {
  return {
    about,
    initial: typeof initial === 'number' ? fromPlain(initial) : initial,
    expected,
    check: (value) => (value instanceof JsonNumber && isLegal(value.value) ? value : undefined),
    fromText: valueOfText,
  }
}

export function integer(initial: number, least: number, most: number, about: string): Field {
  const expected =
    most === Number.MAX_SAFE_INTEGER ? `an integer of at least ${least}` : `an integer from ${least} to ${most}`
  return number(initial, expected, (n) => Number.isSafeInteger(n) && n >= least && n <= most, about)
}

/** A list of names or patterns; `a,b` on the command line. */
export function names(initial: readonly string[] | null, about: string): Field {
  return {
    about,
    initial: initial && [...initial],
    expected: 'a list of strings',
    check: (value) => (Array.isArray(value) && value.every((entry) => typeof entry === 'string') ? value : undefined),
    fromText: listOfText,
  }
}

/** As `field`, or null. */
export function orNull(field: Field, expected = `null or ${field.expected}`): Field {
  return {
    ...field,
    expected,
    check: (value) => (value === null ? null : field.check(value)),
    fromText: (text) => (text === 'null' || text === 'none' ? null : field.fromText(text)),
  }
}

/** As `field`; null stands for the default, as a missing key does. */
export function orDefault(field: Field): Field {
  return { ...field, check: (value) => (value === null ? field.initial : field.check(value)) }
}

/** The keys that a user may set in the config of one method. */
export class ConfigKeys<K extends string> {
  /** Name of the method for people. */
  readonly method: string
  readonly fields: Readonly<Record<K, Field>>

  constructor(method: string, fields: Readonly<Record<K, Field>>) {
    this.method = method
    this.fields = fields
  }

  get names(): K[] {
    return Object.keys(this.fields) as K[]
  }

  /** Throws ConfigError: key, value, what is expected, and where the key stands (` of "mlp.up_proj"`). */
  refuse(key: string, actual: Json, expected: string, details: { hint?: string; where?: string } = {}): never {
    const { hint, where = '' } = details
    const plain = toPlain(actual)
    throw new ConfigError(
      `quantization_config of ${this.method}: "${key}"${where} is ${JSON.stringify(plain)}, expected ${expected}`,
      { key, actual: plain, expected, ...(hint && { hint }) },
    )
  }

  /** The value of `key`, or its default. Throws ConfigError. */
  value(given: JsonObject, key: K, where?: string): Json {
    const value = given[key]
    const field = this.fields[key]
    if (value === undefined) return field.initial
    const legal = field.check(value)
    return legal === undefined ? this.refuse(key, value, field.expected, { where, hint: field.hint?.(value) }) : legal
  }

  /** The values of all keys. Throws ConfigError. */
  values(given: JsonObject): Record<K, Json> {
    return Object.fromEntries(this.names.map((key) => [key, this.value(given, key)])) as Record<K, Json>
  }

  /** What to say of keys that are neither here nor in `besides`. */
  unknown(given: JsonObject, besides: readonly string[], fate: 'not stored' | 'ignored'): string[] {
    const known: readonly string[] = [...this.names, ...besides]
    return Object.keys(given)
      .filter((key) => !known.includes(key))
      .map((key) => `"${key}" is no key of ${this.method}: it is ${fate}`)
  }

  /** The config's keys that flags stand for, checked. Throws ConfigError. */
  fromFlags(flags: Readonly<Record<string, unknown>>): JsonObject {
    const keys: JsonObject = {}
    for (const [name, value] of Object.entries(flags)) {
      if (value === undefined) continue
      const key = keyOfFlag(name, this.method, this.names) as K
      const json = typeof value === 'string' ? this.fields[key].fromText(value) : fromPlain(value as Plain)
      keys[key] = this.value({ [key]: json }, key)
    }
    return keys
  }
}

export const asNumber = (value: Json): number => (value as JsonNumber).value
