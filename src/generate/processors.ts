// What changes the scores before a token is chosen, in the reference's order. Penalties act always, warpers only when sampling.
// A processor works in place on one row of float32 scores; a setting with a neutral value has no processor.
import type { GenerationConfig } from './config.ts'
import { logSumExp } from './select.ts'
import type { Processor } from './types.ts'
import { warpers } from './warpers.ts'

/** Where a row stands. Lengths count tokens of `ids`. */
export interface Limits {
  readonly promptLength: number
  readonly maxLength: number
}

function ban(scores: Float32Array, ids: Iterable<number>): void {
  for (const id of ids) if (id < scores.length) scores[id] = -Infinity
}

function repetition(penalty: number): Processor {
  return {
    name: 'repetition_penalty',
    apply: (ids, scores) => {
      for (const id of new Set(ids)) scores[id] = scores[id] < 0 ? scores[id] * penalty : scores[id] / penalty
    },
  }
}

function noRepeatNgram(n: number): Processor {
  return {
    name: 'no_repeat_ngram_size',
    apply: (ids, scores) => {
      const tail = ids.length - (n - 1)
      for (let at = 0; at + n <= ids.length; at++) {
        let same = true
        for (let i = 0; same && i < n - 1; i++) same = ids[at + i] === ids[tail + i]
        if (same) scores[ids[at + n - 1]] = -Infinity
      }
    },
  }
}

type Bias = readonly [readonly number[], number]

function endsWith(ids: readonly number[], tail: readonly number[]): boolean {
  return tail.length <= ids.length && tail.every((id, i) => ids[ids.length - tail.length + i] === id)
}

/** Adds each bias to the last id of its sequence where the ids before it are the last ones so far. */
function sequenceBias(name: string, biases: readonly Bias[]): Processor {
  return {
    name,
    apply: (ids, scores) => {
      const sums = new Map<number, number>()
      for (const [sequence, bias] of biases) {
        const last = sequence[sequence.length - 1]
        // As the reference: a sequence longer than what is there so far is passed over, even where its beginning fits.
        if (sequence.length > 1 && sequence.length > ids.length) continue
        if (endsWith(ids, sequence.slice(0, -1))) sums.set(last, (sums.get(last) ?? 0) + bias)
      }
      for (const [id, bias] of sums) if (id < scores.length) scores[id] += bias
    },
  }
}

function badWords(words: readonly (readonly number[])[], eosIds: readonly number[]): Processor[] {
  const kept = words.filter((word) => !(word.length === 1 && eosIds.includes(word[0])))
  if (kept.length === 0) return []
  return [
    sequenceBias(
      'bad_words_ids',
      kept.map((word) => [word, -Infinity] as const),
    ),
  ]
}

function minimum(name: string, length: number, eosIds: readonly number[]): Processor {
  return {
    name,
    apply: (ids, scores) => {
      if (ids.length < length) ban(scores, eosIds)
    },
  }
}

/** Only `allowed` stay possible, with score 0. */
function force(name: string, at: number, allowed: readonly number[]): Processor {
  return {
    name,
    apply: (ids, scores) => {
      if (ids.length !== at) return
      scores.fill(-Infinity)
      for (const id of allowed) scores[id] = 0
    },
  }
}

function removeInvalid(): Processor {
  const most = 3.4028234663852886e38
  return {
    name: 'remove_invalid_values',
    apply: (_, scores) => {
      for (let i = 0; i < scores.length; i++) {
        if (Number.isNaN(scores[i])) scores[i] = 0
        else scores[i] = Math.min(most, Math.max(-most, scores[i]))
      }
    },
  }
}

function exponentialDecay([start, factor]: readonly [number, number], prompt: number, eosIds: readonly number[]) {
  return {
    name: 'exponential_decay_length_penalty',
    apply: (ids: readonly number[], scores: Float32Array) => {
      const beyond = ids.length - prompt - start
      if (beyond <= 0) return
      for (const id of eosIds) if (scores[id] !== -Infinity) scores[id] += Math.abs(scores[id]) * (factor ** beyond - 1)
    },
  }
}

function suppress(name: string, banned: readonly number[], when: (length: number) => boolean): Processor {
  return {
    name,
    apply: (ids, scores) => {
      if (when(ids.length)) ban(scores, banned)
    },
  }
}

function renormalize(): Processor {
  return {
    name: 'renormalize_logits',
    apply: (_, scores) => {
      const total = logSumExp(scores)
      for (let i = 0; i < scores.length; i++) scores[i] -= total
    },
  }
}

/** Length, end and suppression rules. */
function boundaries(config: GenerationConfig, { promptLength, maxLength }: Limits): Processor[] {
  const { eosIds, forcedBosTokenId: bos, forcedEosTokenId: forcedEos } = config
  const out: Processor[] = []
  if (config.minLength && eosIds.length > 0) out.push(minimum('min_length', config.minLength, eosIds))
  if (config.minNewTokens && eosIds.length > 0)
    out.push(minimum('min_new_tokens', promptLength + config.minNewTokens, eosIds))
  if (typeof bos === 'number') out.push(force('forced_bos_token_id', 1, [bos]))
  if (typeof forcedEos === 'number') out.push(force('forced_eos_token_id', maxLength - 1, [forcedEos]))
  else if (forcedEos) out.push(force('forced_eos_token_id', maxLength - 1, forcedEos))
  if (config.removeInvalidValues) out.push(removeInvalid())
  const decay = config.exponentialDecayLengthPenalty
  if (decay) out.push(exponentialDecay(decay, promptLength, eosIds))
  if (config.suppressTokens) out.push(suppress('suppress_tokens', config.suppressTokens, () => true))
  const begin = promptLength > 1 || typeof bos !== 'number' ? promptLength : promptLength + 1
  if (config.beginSuppressTokens)
    out.push(suppress('begin_suppress_tokens', config.beginSuppressTokens, (length) => length === begin))
  return out
}

/** All processors of a row, in order. */
export function processorsOf(config: GenerationConfig, limits: Limits): Processor[] {
  const { repetitionPenalty, noRepeatNgramSize, badWordsIds, sequenceBias: biases } = config
  const out: Processor[] = []
  if (biases?.length) out.push(sequenceBias('sequence_bias', biases))
  if (repetitionPenalty && repetitionPenalty !== 1) out.push(repetition(repetitionPenalty))
  if (noRepeatNgramSize) out.push(noRepeatNgram(noRepeatNgramSize))
  if (badWordsIds) out.push(...badWords(badWordsIds, config.eosIds))
  out.push(...boundaries(config, limits))
  if (config.doSample) out.push(...warpers(config))
  if (config.renormalizeLogits) out.push(renormalize())
  return out
}
