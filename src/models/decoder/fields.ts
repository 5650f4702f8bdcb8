// Typed look-ups in a config.json: a wrong type or size is a ConfigError that names the key, never a NaN further on.
// null counts as absent, as it does for the reference.
import { ConfigError } from '../../core/errors.ts'
import type { Plain, PlainObject } from '../../core/json.ts'

/** Larger than any width, vocabulary or context in use. */
const MAX_SIZE = 1 << 24

export class ConfigFields {
  private readonly values: PlainObject
  /** Where the keys stand, for messages: `config.json`, or `rope_parameters of config.json`. */
  private readonly where: string

  constructor(values: PlainObject, where = 'config.json') {
    this.values = values
    this.where = where
  }

  has(key: string): boolean {
    return (this.values[key] ?? null) !== null
  }

  /** Written down as null, which for some keys differs from absent. */
  isNull(key: string): boolean {
    return this.values[key] === null
  }

  fail(key: string, expected: string): never {
    const actual = this.values[key]
    const found = actual === undefined ? 'missing' : short(actual)
    throw new ConfigError(`Cannot read ${this.where}: "${key}" is ${found}, expected ${expected}`, {
      key,
      actual,
      expected,
    })
  }

  /** A whole number from 1 to `max`. */
  size(key: string, fallback?: number, max = MAX_SIZE): number {
    const value = this.values[key] ?? fallback
    if (typeof value !== 'number' || !Number.isInteger(value) || value < 1 || value > max)
      this.fail(key, `a whole number from 1 to ${max}`)
    return value
  }

  /** A whole number from 0. */
  count(key: string, fallback: number): number {
    const value = this.values[key] ?? fallback
    if (typeof value !== 'number' || !Number.isInteger(value) || value < 0) this.fail(key, 'a whole number from 0')
    return value
  }

  /** A finite number above 0. */
  positive(key: string, fallback?: number): number {
    const value = this.values[key] ?? fallback
    if (typeof value !== 'number' || !(value > 0) || !Number.isFinite(value)) this.fail(key, 'a number above 0')
    return value
  }

  flag(key: string, fallback = false): boolean {
    const value = this.values[key] ?? fallback
    if (typeof value !== 'boolean') this.fail(key, 'true or false')
    return value
  }

  text(key: string, fallback?: string): string {
    const value = this.values[key] ?? fallback
    if (typeof value !== 'string') this.fail(key, 'a string')
    return value
  }

  /** A list of `count` numbers above 0. */
  positives(key: string, count: number): number[] {
    const value = this.values[key]
    const legal = Array.isArray(value) && value.length === count && value.every((x) => typeof x === 'number' && x > 0)
    if (!legal) this.fail(key, `a list of ${count} numbers above 0`)
    return value as number[]
  }

  /** A list of numbers, undefined where absent. */
  numbers(key: string): number[] | undefined {
    const value = this.values[key] ?? undefined
    if (value === undefined) return undefined
    if (!Array.isArray(value) || !value.every((x) => typeof x === 'number')) this.fail(key, 'a list of numbers')
    return value as number[]
  }

  /** A list of strings of length `count`, undefined where absent. */
  texts(key: string, count: number): string[] | undefined {
    const value = this.values[key] ?? undefined
    if (value === undefined) return undefined
    const legal = Array.isArray(value) && value.length === count && value.every((x) => typeof x === 'string')
    if (!legal) this.fail(key, `a list of ${count} strings`)
    return value as string[]
  }

  /** A nested object, undefined where absent. */
  object(key: string): PlainObject | undefined {
    const value = this.values[key] ?? undefined
    if (value === undefined) return undefined
    if (typeof value !== 'object' || Array.isArray(value)) this.fail(key, 'an object')
    return value as PlainObject
  }
}

function short(value: Plain): string {
  const text = JSON.stringify(value)
  return text.length > 60 ? `${text.slice(0, 57)}...` : text
}
