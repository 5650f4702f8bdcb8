// The tokenizer library with the corrections it needs, applied to the constructed object:
// whitespace classes, numeric digits, byte-fallback decoding and added tokens as the reference implementation has them.
import { Tokenizer as Library } from '@huggingface/tokenizers'
import { FileError } from '../core/errors.ts'
import { AddedTokenSplitter } from './added-tokens.ts'
import type { AddedTokenJson, TokenizerJson } from './types.ts'

/** Steps of the library are functions with fields. */
type Step = ((...args: never[]) => unknown) & Record<string, unknown>

interface LibraryModel {
  (pieces: string[]): string[]
  readonly vocab: (string | undefined)[]
  readonly tokens_to_ids: Map<string, number>
}

/** What of the library's object is used. */
interface LibraryTokenizer {
  readonly normalizer: ((text: string) => string) | null
  readonly pre_tokenizer: ((text: string, options: { section_index: number }) => string[]) | null
  readonly model: LibraryModel
  readonly decoder: ((tokens: string[]) => string) | null
  readonly post_processor: ((tokens: string[], pair: null, addSpecialTokens: boolean) => { tokens: string[] }) | null
}

/** White_Space of Unicode, for use inside a character class. */
const SPACES = '\\t-\\r \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000'

/** Rewrites `\s` and `\S` of a pattern, inside and outside character classes, to Unicode's White_Space. */
export function withUnicodeSpaces(pattern: RegExp): RegExp {
  let inClass = false
  const source = pattern.source.replace(/\\[\s\S]|[[\]]/g, (part) => {
    if (part === '[') inClass = true
    if (part === ']') inClass = false
    if (part === '\\s') return inClass ? SPACES : `[${SPACES}]`
    if (part === '\\S') return inClass ? '\\P{White_Space}' : `[^${SPACES}]`
    return part
  })
  return new RegExp(source, pattern.flags)
}

/** The reference decodes a run of byte tokens as UTF-8, or as one U+FFFD a byte where it is not UTF-8. */
export function decodeByteRun(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    return '\ufffd'.repeat(bytes.length)
  }
}

function patch(step: Step): void {
  const kind = (step.config as { type?: string } | undefined)?.type
  if (kind === 'ByteFallback') step.text_decoder = { decode: decodeByteRun }
  if (kind === 'Digits') {
    const individual = (step.config as { individual_digits?: boolean }).individual_digits
    step.pattern = individual ? /[^\p{N}]+|\p{N}/gu : /[^\p{N}]+|\p{N}+/gu
  } else if (step.pattern instanceof RegExp) step.pattern = withUnicodeSpaces(step.pattern)
}

/** Visits a step and the steps inside it. */
function walk(step: unknown, visit: (step: Step) => void): void {
  if (typeof step !== 'function') return
  visit(step as Step)
  for (const value of Object.values(step as Step)) {
    if (Array.isArray(value)) for (const inner of value) walk(inner, visit)
    else walk(value, visit)
  }
}

/** Encoding and decoding of one tokenizer.json. */
export class HubTokenizer {
  private readonly inner: LibraryTokenizer
  private readonly raw: AddedTokenSplitter
  /** Without the special ones, for texts in which those are plain text. */
  private readonly rawPlain: AddedTokenSplitter
  private readonly normalized: AddedTokenSplitter
  private readonly added = new Map<string, AddedTokenJson>()
  private readonly special = new Set<number>()
  private readonly addedIds = new Set<number>()
  /** What added tokens that are looked for in normalised text decode to: their normalised form. */
  private readonly normalForms = new Map<number, string>()

  /** May throw any error of the library: the caller names the file. */
  constructor(json: TokenizerJson) {
    this.inner = new Library(json, { clean_up_tokenization_spaces: false }) as unknown as LibraryTokenizer
    walk(this.inner.pre_tokenizer, patch)
    walk(this.inner.decoder, patch)
    const raw: [string, AddedTokenJson][] = []
    const normalized: [string, AddedTokenJson][] = []
    for (const token of json.added_tokens) {
      this.added.set(token.content, token)
      this.addedIds.add(token.id)
      if (token.special) this.special.add(token.id)
      const isNormalized = token.normalized ?? !token.special
      if (isNormalized && this.inner.normalizer) {
        const normal = this.inner.normalizer(token.content)
        normalized.push([normal, token])
        this.normalForms.set(token.id, normal)
      } else raw.push([token.content, token])
    }
    this.raw = new AddedTokenSplitter(raw)
    this.rawPlain = new AddedTokenSplitter(raw.filter(([, token]) => !token.special))
    this.normalized = new AddedTokenSplitter(normalized)
  }

  encode(text: string, addSpecialTokens: boolean, splitSpecialTokens = false): number[] {
    const tokens: string[] = []
    for (const segment of (splitSpecialTokens ? this.rawPlain : this.raw).split(text)) {
      if (segment.token) tokens.push(segment.token.content)
      else this.encodePlain(segment.text, segment.start === 0, tokens)
    }
    const { post_processor } = this.inner
    const processed = post_processor ? post_processor(tokens, null, addSpecialTokens).tokens : tokens
    return processed.map((token) => this.requiredId(token))
  }

  private requiredId(token: string): number {
    const id = this.idOf(token)
    if (id !== undefined) return id
    throw new FileError(`Cannot encode text: the tokenizer gives the token "${token}", which has no id`, { token })
  }

  /** Normalises and encodes text without raw added tokens; `first`: the whole text starts here. */
  private encodePlain(text: string, first: boolean, tokens: string[]): void {
    const { normalizer, pre_tokenizer, model } = this.inner
    const normal = normalizer ? normalizer(text) : text
    for (const segment of this.normalized.split(normal)) {
      if (segment.token) {
        tokens.push(segment.token.content)
        continue
      }
      const sectionIndex = first && segment.start === 0 ? 0 : 1
      const pieces = pre_tokenizer ? pre_tokenizer(segment.text, { section_index: sectionIndex }) : [segment.text]
      for (const token of model(pieces)) tokens.push(token)
    }
  }

  decode(ids: readonly number[], skipSpecialTokens: boolean): string {
    const tokens: string[] = []
    for (const id of ids) {
      const token = this.pieceOf(id)
      if (token !== undefined && !(skipSpecialTokens && this.special.has(id))) tokens.push(token)
    }
    if (tokens.length === 0) return ''
    return this.inner.decoder ? this.inner.decoder(tokens) : tokens.join(' ')
  }

  idOf(token: string): number | undefined {
    return this.added.get(token)?.id ?? this.inner.model.tokens_to_ids.get(token)
  }

  tokenOf(id: number): string | undefined {
    return this.inner.model.vocab[id]
  }

  /** What the decoder is given for an id. */
  pieceOf(id: number): string | undefined {
    return this.normalForms.get(id) ?? this.tokenOf(id)
  }

  isAdded(id: number): boolean {
    return this.addedIds.has(id)
  }

  isSpecial(id: number): boolean {
    return this.special.has(id)
  }

  get vocabSize(): number {
    return this.inner.model.vocab.length
  }
}
