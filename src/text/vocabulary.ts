// A vocabulary as SentencePiece and GGUF see it (tokens with type and score, by id), and the tokenizer.json that does the same.
import { FileError } from '../core/errors.ts'
import type { PreTokenizerRule } from './pre-tokenizers.ts'
import type { AddedTokenJson, StepJson, TokenizerJson } from './types.ts'

/** The numbers that SentencePiece and GGUF give to kinds of tokens. */
export const TokenType = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const

/** Tokens by id, with their types. */
export interface Vocabulary {
  readonly tokens: readonly string[]
  readonly types: ArrayLike<number>
}

/** What is added around a text. */
export interface Surroundings {
  readonly bos?: string
  readonly eos?: string
}

/** Spaces are written as this character in SentencePiece vocabularies. */
const SPACE_MARK = '\u2581'

/** Control and unknown tokens are special, user-defined ones are only kept whole. */
function addedTokens({ tokens, types }: Vocabulary): AddedTokenJson[] {
  const out: AddedTokenJson[] = []
  tokens.forEach((content, id) => {
    const special = types[id] === TokenType.control || types[id] === TokenType.unknown
    if (special || types[id] === TokenType.userDefined) out.push({ id, content, special, normalized: false })
  })
  return out
}

/** token -> id; of equal tokens the first id. The prototype is null: `__proto__` is a token like any other. */
function idsByToken({ tokens }: Vocabulary): Record<string, number> {
  const out: Record<string, number> = Object.create(null)
  tokens.forEach((token, id) => {
    out[token] ??= id
  })
  return out
}

function surround({ bos, eos }: Surroundings): StepJson | null {
  if (bos === undefined && eos === undefined) return null
  const special = (id: string | undefined) => (id === undefined ? [] : [{ SpecialToken: { id, type_id: 0 } }])
  const single = [...special(bos), { Sequence: { id: 'A', type_id: 0 } }, ...special(eos)]
  return { type: 'TemplateProcessing', single, pair: single, special_tokens: {} }
}

/** Byte-level BPE with its merges ("a b" or pairs) and a named pre-tokenizer. */
export function byteLevelJson(
  vocabulary: Vocabulary,
  merges: readonly (string | readonly [string, string])[],
  rule: PreTokenizerRule,
  around: Surroundings,
): TokenizerJson {
  const pairs = merges.map((merge): readonly [string, string] => {
    if (typeof merge !== 'string') return merge
    const at = merge.indexOf(' ', 1)
    if (at < 0)
      throw new FileError(`Cannot read the tokenizer: the merge ${JSON.stringify(merge)} is not "a b"`, { merge })
    return [merge.slice(0, at), merge.slice(at + 1)]
  })
  return {
    added_tokens: addedTokens(vocabulary),
    normalizer: rule.normalizer ?? null,
    pre_tokenizer: rule.steps,
    post_processor: surround(around),
    decoder: { type: 'ByteLevel' },
    model: {
      type: 'BPE',
      vocab: idsByToken(vocabulary),
      merges: pairs,
      unk_token: null,
      ignore_merges: rule.ignoreMerges,
    },
  }
}

/** Every way to put a token together from two others, best score first: what SentencePiece's BPE does, as a list of merges. */
function mergesByScore({ tokens, types }: Vocabulary, scores: ArrayLike<number>): [string, string][] {
  // A map: looking up many short-lived substrings as keys of an object is ten times slower.
  const ids = new Map<string, number>()
  tokens.forEach((token, id) => {
    if (!ids.has(token)) ids.set(token, id)
  })
  const found: { left: string; right: string; leftId: number; rightId: number; score: number }[] = []
  tokens.forEach((token, id) => {
    if (types[id] !== TokenType.normal) return
    for (let at = 1; at < token.length; at++) {
      const left = token.slice(0, at)
      const leftId = ids.get(left)
      if (leftId === undefined) continue
      const right = token.slice(at)
      const rightId = ids.get(right)
      if (rightId !== undefined) found.push({ left, right, leftId, rightId, score: scores[id] })
    }
  })
  found.sort((a, b) => b.score - a.score || a.leftId - b.leftId || a.rightId - b.rightId)
  return found.map(({ left, right }) => [left, right])
}

/** SentencePiece BPE with byte fallback. `spacePrefix`: a space is put before each text, and dropped when decoding. */
export function sentencePieceJson(
  vocabulary: Vocabulary,
  scores: ArrayLike<number>,
  spacePrefix: boolean,
  around: Surroundings,
): TokenizerJson {
  const ids = idsByToken(vocabulary)
  const unknown = vocabulary.tokens.find((_, id) => vocabulary.types[id] === TokenType.unknown)
  const marks: StepJson = { type: 'Replace', pattern: { String: ' ' }, content: SPACE_MARK }
  const decoders: StepJson[] = [
    { type: 'Replace', pattern: { String: SPACE_MARK }, content: ' ' },
    { type: 'ByteFallback' },
    { type: 'Fuse' },
  ]
  if (spacePrefix) decoders.push({ type: 'Strip', content: ' ', start: 1, stop: 0 })
  return {
    added_tokens: addedTokens(vocabulary),
    normalizer: spacePrefix
      ? { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: SPACE_MARK }, marks] }
      : marks,
    pre_tokenizer: null,
    post_processor: surround(around),
    decoder: { type: 'Sequence', decoders },
    model: {
      type: 'BPE',
      vocab: ids,
      merges: mergesByScore(vocabulary, scores),
      unk_token: unknown ?? null,
      fuse_unk: true,
      byte_fallback: true,
    },
  }
}
