// Reads and checks tokenizer.json before the library sees it: sizes are bounded, ids are whole numbers below a limit, and the parts
// that the library follows blindly have the types that it expects.
import { FileError } from '../core/errors.ts'
import type { AddedTokenJson, ModelJson, TokenizerJson } from './types.ts'

/** The largest published vocabularies have about 262,000 entries. */
export const MAX_VOCABULARY = 1 << 22
/** Longest token string accepted; real ones stay below 1,000 (runs of spaces). */
const MAX_TOKEN_LENGTH = 1 << 16
/** Regular expressions and nesting of real pre-tokenizers are far below these. */
const MAX_PATTERN_LENGTH = 1 << 14
const MAX_STEP_DEPTH = 16

export type Fail = (problem: string, fields?: Record<string, unknown>) => never

/** Throws FileErrors about one file. */
export function failer(file: string): Fail {
  return (problem, fields = {}) => {
    throw new FileError(`Cannot read "${file}": ${problem}`, { file, ...fields })
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function checkId(id: unknown, token: string, fail: Fail): void {
  if (!Number.isSafeInteger(id) || (id as number) < 0 || (id as number) >= MAX_VOCABULARY)
    fail(
      `token ${JSON.stringify(token.slice(0, 80))} has the id ${JSON.stringify(id)}, legal are 0 to ${MAX_VOCABULARY - 1}`,
      {
        token,
        id,
      },
    )
}

function checkToken(token: unknown, fail: Fail): void {
  if (typeof token !== 'string') fail('a token of the vocabulary is not a string')
  else if (token.length > MAX_TOKEN_LENGTH)
    fail(`a token has ${token.length} characters, the limit is ${MAX_TOKEN_LENGTH}`, { actual: token.length })
}

function checkVocabulary(vocab: unknown, fail: Fail): void {
  if (Array.isArray(vocab)) {
    if (vocab.length > MAX_VOCABULARY) fail(`the vocabulary has ${vocab.length} entries`, { actual: vocab.length })
    for (const entry of vocab) {
      if (!Array.isArray(entry) || typeof entry[1] !== 'number')
        fail('an entry of the vocabulary is not [token, score]')
      checkToken(entry[0], fail)
    }
    return
  }
  if (!isObject(vocab)) fail('"model" has no "vocab"')
  let count = 0
  for (const token in vocab) {
    if (++count > MAX_VOCABULARY) fail(`the vocabulary has more than ${MAX_VOCABULARY} entries`)
    checkToken(token, fail)
    checkId(vocab[token], token, fail)
  }
}

function checkMerges(merges: unknown, fail: Fail): void {
  if (!Array.isArray(merges)) fail('the BPE model has no list "merges"')
  if (merges.length > MAX_VOCABULARY) fail(`there are ${merges.length} merges, the limit is ${MAX_VOCABULARY}`)
  merges.forEach((merge, i) => {
    const parts = typeof merge === 'string' ? merge.split(' ') : merge
    const legal = Array.isArray(parts) && parts.length === 2 && parts.every((p) => typeof p === 'string')
    if (!legal) fail(`merge ${i} is not a pair of tokens`, { index: i })
  })
}

/** Walks a normalizer, pre-tokenizer, post-processor or decoder. */
function checkStep(step: unknown, key: string, fail: Fail, depth = 0): void {
  if (step === null || step === undefined) return
  if (depth > MAX_STEP_DEPTH) fail(`"${key}" is nested deeper than ${MAX_STEP_DEPTH}`)
  if (!isObject(step) || typeof step.type !== 'string') fail(`"${key}" holds a step without a "type"`)
  const pattern = step.pattern
  if (isObject(pattern)) {
    const text = pattern.Regex ?? pattern.String
    if (typeof text !== 'string' || text.length > MAX_PATTERN_LENGTH)
      fail(`a pattern in "${key}" is no text of at most ${MAX_PATTERN_LENGTH} characters`)
  }
  for (const list of ['normalizers', 'pretokenizers', 'processors', 'decoders']) {
    const inner = step[list]
    if (inner === undefined) continue
    if (!Array.isArray(inner)) fail(`"${list}" in "${key}" is not a list`)
    for (const one of inner) checkStep(one, key, fail, depth + 1)
  }
}

function checkAdded(added: unknown, fail: Fail): AddedTokenJson[] {
  if (added === undefined || added === null) return []
  if (!Array.isArray(added)) fail('"added_tokens" is not a list')
  for (const token of added) {
    if (!isObject(token)) fail('an entry of "added_tokens" is not an object')
    checkToken(token.content, fail)
    checkId(token.id, String(token.content), fail)
  }
  return added
}

/** Checks a parsed tokenizer.json and fills in absent parts. Throws FileError naming `file`. */
export function checkTokenizerJson(value: unknown, file: string): TokenizerJson {
  const fail: Fail = failer(file)
  if (!isObject(value)) fail('the top level is not an object')
  const { model } = value
  if (!isObject(model)) fail('it has no "model"')
  checkVocabulary(model.vocab, fail)
  const isBpe = model.type === 'BPE' || (model.type === undefined && 'merges' in model)
  if (isBpe) checkMerges(model.merges, fail)
  if (typeof model.unk_token === 'string' && isObject(model.vocab) && !Object.hasOwn(model.vocab, model.unk_token))
    fail(`the unknown token "${model.unk_token}" is not in the vocabulary`, { token: model.unk_token })
  const steps = ['normalizer', 'pre_tokenizer', 'post_processor', 'decoder'] as const
  for (const key of steps) checkStep(value[key], key, fail)
  return {
    ...value,
    added_tokens: checkAdded(value.added_tokens, fail),
    normalizer: value.normalizer ?? null,
    pre_tokenizer: value.pre_tokenizer ?? null,
    post_processor: value.post_processor ?? null,
    decoder: value.decoder ?? null,
    model: (isBpe ? { ...model, type: 'BPE' } : model) as unknown as ModelJson,
  } as TokenizerJson
}

/** Parses tokenizer.json. The text may be large: the engine's own parser reads it, which needs no depth limit. */
export function parseTokenizerJson(text: string, file = 'tokenizer.json'): TokenizerJson {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw new FileError(`Cannot read "${file}" as JSON: ${(cause as Error).message}`, { file, cause })
  }
  return checkTokenizerJson(value, file)
}
