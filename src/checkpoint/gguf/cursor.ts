// Reads the numbers and strings of a GGUF header from the front of a file. The bytes come in growing prefixes: an item that runs over the
// end of what is loaded is parsed again when more has been read, so that parsing itself is synchronous and every byte is read about once.
import { FileError } from '../../core/errors.ts'
import type { ByteSource } from '../types.ts'
import { GGUF_NUMBER_ARRAYS, type GgufBigType, type GgufNumbers, type GgufNumberType } from './metadata.ts'

/** Larger than any real header (256,000 tokens with merges make about 10 MB), small enough to hold in memory. */
const MAX_HEADER_BYTES = 512 * 1024 * 1024
const FIRST_READ = 256 * 1024

/** Thrown when `until` bytes are needed and fewer are loaded; never leaves this file. */
class NeedMore {
  readonly until: number
  constructor(until: number) {
    this.until = until
  }
}

const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
const lenient = new TextDecoder('utf-8', { ignoreBOM: true })

export interface DecodedText {
  readonly text: string
  /** True where the bytes are no UTF-8, so that `text` does not give them back. */
  readonly lossy: boolean
}

export class GgufCursor {
  readonly source: ByteSource
  /** Bytes from the start of the file. */
  at = 0
  private bytes = new Uint8Array(0)
  private view = new DataView(this.bytes.buffer)
  private readonly little: () => boolean

  constructor(source: ByteSource, little: () => boolean) {
    this.source = source
    this.little = little
  }

  fail(problem: string, fields: Record<string, unknown> = {}): never {
    throw new FileError(`Cannot read "${this.source.name}" as GGUF: ${problem}`, {
      file: this.source.name,
      offset: this.at,
      ...fields,
    })
  }

  /** Bytes of the file after the cursor. */
  get left(): number {
    return this.source.size - this.at
  }

  /** Runs `parse`, and again from the same place after reading more where it ran over the end of what is loaded. */
  async item<T>(parse: () => T): Promise<T> {
    const start = this.at
    for (;;) {
      try {
        return parse()
      } catch (e) {
        if (!(e instanceof NeedMore)) throw e
        this.at = start
        await this.load(e.until)
      }
    }
  }

  private async load(until: number): Promise<void> {
    if (until > MAX_HEADER_BYTES)
      this.fail(`the header runs beyond ${MAX_HEADER_BYTES} bytes`, { expected: MAX_HEADER_BYTES, actual: until })
    const size = Math.min(this.source.size, MAX_HEADER_BYTES, Math.max(until, FIRST_READ, this.bytes.length * 2))
    const grown = new Uint8Array(size)
    grown.set(this.bytes)
    grown.set(await this.source.read(this.bytes.length, size - this.bytes.length), this.bytes.length)
    this.bytes = grown
    this.view = new DataView(grown.buffer)
  }

  /** Claims `count` bytes at the cursor and moves past them. Throws FileError where the file is shorter. */
  private take(count: number, what: string): number {
    const start = this.at
    if (count > this.left) {
      this.fail(`the file ends inside ${what}: ${count} bytes are needed at byte ${start}, ${this.left} are left`, {
        expected: start + count,
        actual: this.source.size,
        hint: 'the download may be incomplete: fetch the file again',
      })
    }
    if (start + count > this.bytes.length) throw new NeedMore(start + count)
    this.at = start + count
    return start
  }

  u32(what: string): number {
    return this.view.getUint32(this.take(4, what), this.little())
  }

  /** A u64 that must be a safe integer: counts, lengths and offsets. */
  count(what: string): number {
    const value = Number(this.view.getBigUint64(this.take(8, what), this.little()))
    if (!Number.isSafeInteger(value)) this.fail(`${what} is ${value}`, { actual: value })
    return value
  }

  raw(count: number, what: string): Uint8Array {
    const start = this.take(count, what)
    return this.bytes.subarray(start, start + count)
  }

  text(what: string): DecodedText {
    const length = this.count(`the length of ${what}`)
    const bytes = this.raw(length, what)
    try {
      return { text: strict.decode(bytes), lossy: false }
    } catch {
      // A token of an old vocabulary may be half a character: shown with U+FFFD, written back from its bytes.
      return { text: lenient.decode(bytes), lossy: true }
    }
  }

  number(type: GgufNumberType | GgufBigType, what: string): number | bigint {
    return this.numbers(type, 1, what)[0]
  }

  /** `count` numbers as a typed array of this machine's (little) order. */
  numbers(type: GgufNumberType | GgufBigType, count: number, what: string): GgufNumbers {
    const Type = GGUF_NUMBER_ARRAYS[type]
    const width = Type.BYTES_PER_ELEMENT
    const bytes = this.raw(count * width, what).slice()
    if (!this.little()) reverseWords(bytes, width)
    return new Type(bytes.buffer)
  }
}

/** Turns every word of `width` bytes round, in place. */
export function reverseWords(bytes: Uint8Array, width: number): void {
  for (let at = 0; at + width <= bytes.length; at += width) bytes.subarray(at, at + width).reverse()
}
