// The bytes behind a token string, read off the decoder of a tokenizer.json: byte-level alphabets and SentencePiece pieces.
// Streaming and stop strings need bytes, because one token may hold part of a character.
import type { StepJson } from './types.ts'

const encoder = new TextEncoder()

/** Character -> byte of the GPT-2 alphabet: printable bytes stand for themselves, the other 68 for U+0100 and on. */
const BYTE_OF_CHARACTER: ReadonlyMap<string, number> = (() => {
  const map = new Map<string, number>()
  let next = 256
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae
    map.set(String.fromCharCode(printable ? byte : next++), byte)
  }
  return map
})()

/** Byte of a SentencePiece byte token such as `<0x0A>`. */
export function byteOfToken(token: string): number | undefined {
  return /^<0x[0-9A-Fa-f]{2}>$/.test(token) ? Number.parseInt(token.slice(3, 5), 16) : undefined
}

export interface TokenBytes {
  /** Bytes of one token inside a text; an added token stands for its own text. */
  of(token: string, isAdded: boolean): Uint8Array
  /** The decoder drops one space at the start of the whole text. */
  readonly dropsFirstSpace: boolean
  /** A run of byte tokens is decoded for itself; else all bytes are one stream. */
  readonly byteRuns: boolean
}

function flatten(step: StepJson | null): StepJson[] {
  if (!step) return []
  if (step.type !== 'Sequence') return [step]
  return (step.decoders as StepJson[]).flatMap(flatten)
}

function byteLevel(token: string, isAdded: boolean): Uint8Array {
  if (isAdded) return encoder.encode(token)
  const out = new Uint8Array(token.length)
  for (let i = 0; i < token.length; i++) {
    const byte = BYTE_OF_CHARACTER.get(token[i])
    // As the reference: a token outside the alphabet stands for its own text.
    if (byte === undefined) return encoder.encode(token)
    out[i] = byte
  }
  return out
}

/** Undefined where the decoder is of neither kind (WordPiece, CTC ...). */
export function tokenBytes(decoder: StepJson | null): TokenBytes | undefined {
  const steps = flatten(decoder)
  if (steps.some((step) => step.type === 'ByteLevel')) {
    return steps.length === 1 ? { of: byteLevel, dropsFirstSpace: false, byteRuns: false } : undefined
  }
  let dropsFirstSpace = false
  const spaces: string[] = []
  for (const step of steps) {
    if (step.type === 'Replace') {
      const from = (step.pattern as { String?: string } | undefined)?.String
      if (from === undefined || step.content !== ' ') return undefined
      spaces.push(from)
    } else if (step.type === 'Metaspace') {
      spaces.push(String(step.replacement ?? '\u2581'))
      dropsFirstSpace = (step.prepend_scheme ?? 'always') !== 'never' && step.add_prefix_space !== false
    } else if (step.type === 'Strip') {
      if (step.content !== ' ' || step.start !== 1 || step.stop) return undefined
      dropsFirstSpace = true
    } else if (step.type !== 'ByteFallback' && step.type !== 'Fuse') return undefined
  }
  if (spaces.length === 0) return undefined
  const fallback = steps.some((step) => step.type === 'ByteFallback')
  return {
    of: (token, isAdded) => {
      const byte = fallback && !isAdded ? byteOfToken(token) : undefined
      if (byte !== undefined) return Uint8Array.of(byte)
      return encoder.encode(spaces.reduce((text, space) => text.replaceAll(space, ' '), token))
    },
    dropsFirstSpace,
    byteRuns: fallback,
  }
}
