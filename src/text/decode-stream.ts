// Ids -> text while they arrive. Bytes are held back until they form characters, so that no piece ends inside one.
// One exception to "pieces joined = decode": the reference turns a whole run of byte tokens into U+FFFD as soon as one byte of it is
// wrong. Characters of such a run that were complete have been shown by then and stay.
import type { HubTokenizer } from './hub-tokenizer.ts'
import { byteOfToken, type TokenBytes } from './token-bytes.ts'
import type { DecodeStream } from './types.ts'

/** Length of the UTF-8 sequence that a first byte announces; 0 for a byte that cannot begin one. */
function sequenceLength(first: number): number {
  if (first < 0x80) return 1
  if (first >= 0xc2 && first < 0xe0) return 2
  if (first >= 0xe0 && first < 0xf0) return 3
  return first >= 0xf0 && first < 0xf5 ? 4 : 0
}

/** How many bytes at the end are the beginning of a character that may still become whole. */
export function incompleteTail(bytes: Uint8Array): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back]
    if (byte >= 0x80 && byte < 0xc0) continue
    if (sequenceLength(byte) <= back) return 0
    // What follows the first byte must be able to go on: then the decoder sees one unfinished character, not several wrong ones.
    const text = new TextDecoder().decode(bytes.subarray(bytes.length - back))
    return text === '\ufffd' ? back : 0
  }
  return 0
}

function join(a: Uint8Array, b: Uint8Array): Uint8Array {
  const out = new Uint8Array(a.length + b.length)
  out.set(a)
  out.set(b, a.length)
  return out
}

/** Streams byte-level and SentencePiece vocabularies. */
class ByteStream implements DecodeStream {
  private pending: Uint8Array = new Uint8Array(0)
  private atStart: boolean
  private readonly tokenizer: HubTokenizer
  private readonly bytes: TokenBytes
  private readonly skipSpecialTokens: boolean

  constructor(tokenizer: HubTokenizer, bytes: TokenBytes, skipSpecialTokens: boolean) {
    this.tokenizer = tokenizer
    this.bytes = bytes
    this.skipSpecialTokens = skipSpecialTokens
    this.atStart = bytes.dropsFirstSpace
  }

  push(id: number): string {
    const token = this.tokenizer.pieceOf(id)
    if (token === undefined || (this.skipSpecialTokens && this.tokenizer.isSpecial(id))) return ''
    // A piece after a run of byte tokens ends that run.
    const ended = this.bytes.byteRuns && byteOfToken(token) === undefined ? this.take(this.pending.length) : ''
    this.pending = join(this.pending, this.bytes.of(token, this.tokenizer.isAdded(id)))
    return ended + this.take(this.pending.length - incompleteTail(this.pending))
  }

  flush(): string {
    return this.take(this.pending.length)
  }

  private take(count: number): string {
    if (count === 0) return ''
    const ready = this.pending.subarray(0, count)
    this.pending = this.pending.slice(count)
    const text = this.bytes.byteRuns ? perByte(ready) : decoder.decode(ready)
    if (!this.atStart) return text
    this.atStart = false
    return text.startsWith(' ') ? text.slice(1) : text
  }
}

const decoder = new TextDecoder('utf-8', { ignoreBOM: true })

/** Wrong bytes each become one U+FFFD, where the decoder would join the beginnings of a character. */
function perByte(bytes: Uint8Array): string {
  let text = ''
  for (let at = 0; at < bytes.length; ) {
    const length = sequenceLength(bytes[at])
    const character = length > 0 ? decoder.decode(bytes.subarray(at, at + length)) : '\ufffd'
    const whole = length > 0 && at + length <= bytes.length && ![...character].includes('\ufffd')
    const literal = length === 3 && bytes[at] === 0xef && bytes[at + 1] === 0xbf && bytes[at + 2] === 0xbd
    text += whole || literal ? character : '\ufffd'
    at += whole || literal ? length : 1
  }
  return text
}

/** Streams any other vocabulary by decoding everything again and giving out what is new. */
class WholeStream implements DecodeStream {
  private readonly ids: number[] = []
  private given = 0
  private readonly decode: (ids: readonly number[]) => string

  constructor(decode: (ids: readonly number[]) => string) {
    this.decode = decode
  }

  push(id: number): string {
    this.ids.push(id)
    return this.rest(/\ufffd*$/)
  }

  flush(): string {
    return this.rest(/$/)
  }

  private rest(held: RegExp): string {
    const text = this.decode(this.ids).replace(held, '')
    const piece = text.slice(this.given)
    this.given = Math.max(this.given, text.length)
    return piece
  }
}

/** A fresh stream over a tokenizer's ids. */
export function decodeStream(
  tokenizer: HubTokenizer,
  bytes: TokenBytes | undefined,
  skipSpecialTokens: boolean,
): DecodeStream {
  if (bytes) return new ByteStream(tokenizer, bytes, skipSpecialTokens)
  return new WholeStream((ids) => tokenizer.decode(ids, skipSpecialTokens))
}
