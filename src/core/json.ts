// Lossless JSON: numbers keep their spelling (1e-06, 10000.0), Python's NaN and Infinity are read, depth and size are bounded.
// The reader is iterative where depth could hurt: nesting beyond MAX_DEPTH is an error, not a stack overflow.
import { FileError } from './errors.ts'

/** A number with the text it was written as. */
export class JsonNumber {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
  get value(): number {
    return Number(this.text)
  }
}

export type Json = null | boolean | string | JsonNumber | Json[] | JsonObject
export interface JsonObject {
  [key: string]: Json
}
export type Plain = null | boolean | number | string | Plain[] | { [key: string]: Plain }
export type PlainObject = { [key: string]: Plain }

/** Deeper nesting than any real config (a tokenizer.json has about 8 levels). */
const MAX_DEPTH = 128

const LITERAL = /(?:true|false|null)/y
const NUMBER = /-?(?:(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|Infinity)|NaN/y
const QUOTE = 34
const BACKSLASH = 92

/** Throws FileError where `text` nests deeper than `max`: then it is safe for JSON.parse. Linear, without a stack. */
export function checkDepth(text: string, name: string, max: number = MAX_DEPTH): void {
  let depth = 0
  for (let at = 0; at < text.length; at++) {
    const c = text.charCodeAt(at)
    if (c === QUOTE) {
      while (++at < text.length && text.charCodeAt(at) !== QUOTE) if (text.charCodeAt(at) === BACKSLASH) at++
    } else if (c === 0x5b || c === 0x7b) {
      if (++depth > max)
        throw new FileError(`Cannot read "${name}" as JSON: nesting is deeper than ${max} at character ${at}`, {
          file: name,
          offset: at,
          expected: max,
        })
    } else if (c === 0x5d || c === 0x7d) depth--
  }
}

class Reader {
  private at = 0
  private readonly text: string
  private readonly name: string
  constructor(text: string, name: string) {
    this.text = text
    this.name = name
  }

  document(): Json {
    const value = this.value(0)
    this.space()
    if (this.at < this.text.length) this.fail('found text after the end of the document')
    return value
  }

  private fail(problem: string): never {
    throw new FileError(`Cannot read "${this.name}" as JSON: ${problem} at character ${this.at}`, {
      file: this.name,
      offset: this.at,
    })
  }

  private space(): void {
    for (;;) {
      const c = this.text.charCodeAt(this.at)
      if (c === 32 || c === 10 || c === 13 || c === 9) this.at++
      else return
    }
  }

  private value(depth: number): Json {
    if (depth > MAX_DEPTH) this.fail(`nesting is deeper than ${MAX_DEPTH}`)
    this.space()
    const c = this.text[this.at]
    if (c === '{') return this.object(depth)
    if (c === '[') return this.array(depth)
    if (c === '"') return this.string()
    LITERAL.lastIndex = this.at
    const word = LITERAL.exec(this.text)?.[0]
    if (word) {
      this.at += word.length
      return word === 'null' ? null : word === 'true'
    }
    NUMBER.lastIndex = this.at
    const digits = NUMBER.exec(this.text)?.[0]
    if (!digits) this.fail(c === undefined ? 'the text ends too early' : `found ${JSON.stringify(c)}, expected a value`)
    this.at += digits.length
    return new JsonNumber(digits)
  }

  private object(depth: number): JsonObject {
    const out: JsonObject = Object.create(null)
    this.at++
    this.space()
    if (this.text[this.at] === '}') {
      this.at++
      return out
    }
    for (;;) {
      this.space()
      if (this.text[this.at] !== '"') this.fail('expected a key in double quotes')
      const key = this.string()
      if (key in out) this.fail(`key ${JSON.stringify(key)} occurs twice`)
      this.space()
      if (this.text[this.at] !== ':') this.fail('expected ":"')
      this.at++
      out[key] = this.value(depth + 1)
      this.space()
      const c = this.text[this.at++]
      if (c === '}') return out
      if (c !== ',') {
        this.at--
        this.fail('expected "," or "}"')
      }
    }
  }

  private array(depth: number): Json[] {
    const out: Json[] = []
    this.at++
    this.space()
    if (this.text[this.at] === ']') {
      this.at++
      return out
    }
    for (;;) {
      out.push(this.value(depth + 1))
      this.space()
      const c = this.text[this.at++]
      if (c === ']') return out
      if (c !== ',') {
        this.at--
        this.fail('expected "," or "]"')
      }
    }
  }

  private string(): string {
    // A string that stands for itself (no escape, no control character) is cut out; others go through the engine's parser.
    const start = this.at + 1
    let plain = start
    let c = this.text.charCodeAt(plain)
    while (c !== QUOTE && c !== BACKSLASH && c >= 32) c = this.text.charCodeAt(++plain)
    if (c === QUOTE) {
      this.at = plain + 1
      return this.text.slice(start, plain)
    }
    let end = this.at + 1
    for (;;) {
      const quote = this.text.indexOf('"', end)
      if (quote < 0) this.fail('a string does not end')
      let slashes = 0
      while (this.text[quote - 1 - slashes] === '\\') slashes++
      end = quote + 1
      if (slashes % 2 === 0) break
    }
    const source = this.text.slice(this.at, end)
    try {
      const value = JSON.parse(source) as string
      this.at = end
      return value
    } catch {
      this.fail('a string holds an illegal escape or control character')
    }
  }
}

/** Parses JSON text; `name` is the file for error messages. Throws FileError. */
export function parseJson(text: string, name: string): Json {
  return new Reader(text.charCodeAt(0) === 0xfeff ? text.slice(1) : text, name).document()
}

/** Parses JSON text that must be an object. Throws FileError. */
export function parseJsonObject(text: string, name: string): JsonObject {
  const value = parseJson(text, name)
  if (!isJsonObject(value)) {
    throw new FileError(`Cannot read "${name}": the top level is not an object`, { file: name, expected: 'object' })
  }
  return value
}

export function isJsonObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof JsonNumber)
}

/** Drops the spelling: an ordinary JavaScript value. */
export function toPlain(value: Json): Plain {
  if (value instanceof JsonNumber) return value.value
  if (Array.isArray(value)) return value.map(toPlain)
  if (!isJsonObject(value)) return value as Plain
  const out: PlainObject = {}
  for (const key of Object.keys(value))
    Object.defineProperty(out, key, {
      value: toPlain(value[key]),
      enumerable: true,
      writable: true,
      configurable: true,
    })
  return out
}

/** A float as Python's repr writes it: shortest digits, `.0` on integers, exponent below 1e-4 and from 1e16 on. */
export function pythonFloat(value: number): string {
  if (Number.isNaN(value)) return 'NaN'
  if (!Number.isFinite(value)) return value > 0 ? 'Infinity' : '-Infinity'
  if (Object.is(value, -0)) return '-0.0'
  const magnitude = Math.abs(value)
  if (value === 0) return '0.0'
  if (magnitude >= 1e16 || magnitude < 1e-4) {
    const [mantissa, exponent] = value.toExponential().split('e')
    const digits = exponent.slice(1).padStart(2, '0')
    return `${mantissa}e${exponent[0]}${digits}`
  }
  const text = String(value)
  if (text.includes('e')) return BigInt(value).toString() + '.0'
  return text.includes('.') ? text : `${text}.0`
}

/** Lossless value of a plain one. Integral numbers are written as integers; use `new JsonNumber(pythonFloat(x))` for floats. */
export function fromPlain(value: Plain): Json {
  if (typeof value === 'number') return new JsonNumber(Number.isInteger(value) ? String(value) : pythonFloat(value))
  if (Array.isArray(value)) return value.map(fromPlain)
  if (typeof value !== 'object' || value === null) return value
  const out: JsonObject = Object.create(null)
  for (const key of Object.keys(value)) out[key] = fromPlain(value[key])
  return out
}

/** JSON string literal as Python's json.dumps with ensure_ascii writes it. */
function pythonString(text: string): string {
  return JSON.stringify(text).replace(/[\u007f-\uffff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

/** Writes JSON as Python's `json.dumps(value, indent=2, sort_keys=True)` does: sorted keys, ASCII, no final newline. */
export function writeJson(value: Json, indent = ''): string {
  if (value instanceof JsonNumber) return value.text
  if (typeof value === 'string') return pythonString(value)
  if (value === null || typeof value === 'boolean') return String(value)
  const inner = `${indent}  `
  if (Array.isArray(value)) {
    if (value.length === 0) return '[]'
    return `[\n${value.map((v) => inner + writeJson(v, inner)).join(',\n')}\n${indent}]`
  }
  const keys = Object.keys(value).sort(byCodePoint)
  if (keys.length === 0) return '{}'
  const rows = keys.map((key) => `${inner}${pythonString(key)}: ${writeJson(value[key], inner)}`)
  return `{\n${rows.join(',\n')}\n${indent}}`
}

/** Order of Python's string comparison (and of UTF-8 bytes): by code point, not by UTF-16 unit. */
export function byCodePoint(a: string, b: string): number {
  const length = Math.min(a.length, b.length)
  for (let i = 0; i < length; i++) {
    const [x, y] = [a.charCodeAt(i), b.charCodeAt(i)]
    if (x !== y) return rank(x) - rank(y)
  }
  return a.length - b.length
}

/** Surrogates stand for code points above all others: they move behind U+E000..U+FFFF. */
function rank(unit: number): number {
  if (unit < 0xd800) return unit
  return unit >= 0xe000 ? unit - 0x800 : unit + 0x2000
}
