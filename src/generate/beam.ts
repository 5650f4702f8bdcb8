// Beam search as the reference runs it: K = max(2, 1 + number of end ids) * beams candidates a step; a candidate that ends counts only
// among the best `numBeams`. Each prompt is searched alone, which changes nothing in its result.
// Beams share no cache entries: a slot whose beam takes over another one's history computes what differs.
import type { GenerationConfig } from './config.ts'
import { type Limit, limitOf } from './limits.ts'
import { processorsOf } from './processors.ts'
import { randomFrom } from './random.ts'
import { largest, logSumExp } from './select.ts'
import { Sequences } from './sequences.ts'
import { stopCondition } from './stop-strings.ts'
import type { FinishReason, GeneratedSequence, GenerateOptions, GenerationModel } from './types.ts'

/** What the reference adds to the score of a beam that is out. */
const OUT = Math.fround(-1e9)

interface Beam {
  readonly ids: readonly number[]
  /** Sum of log probabilities, float32. */
  readonly score: number
}

interface Candidate extends Beam {
  readonly parent: number
  readonly finish?: FinishReason
}

interface Finished extends Beam {
  readonly finish?: FinishReason
}

/** The best `count` of a list by score, equal ones in their order. */
function best<T extends Beam>(list: readonly T[], count: number): T[] {
  return largest(
    list.map((beam) => beam.score),
    count,
  ).map((i) => list[i])
}

function logSoftmax(scores: Float32Array): void {
  const total = logSumExp(scores)
  for (let i = 0; i < scores.length; i++) scores[i] -= total
}

class Search {
  private running: Beam[]
  private finished: Finished[]
  /** False once no running beam can beat the worst finished one. */
  private canImprove = true
  /** Which slot computes each running beam. */
  private slots: number[]
  private readonly promptLength: number
  private readonly limit: Limit
  private readonly config: GenerationConfig

  constructor(prompt: readonly number[], config: GenerationConfig, limit: Limit) {
    this.config = config
    this.limit = limit
    this.promptLength = prompt.length
    // All beams begin alike: only the first counts until they differ.
    this.running = Array.from({ length: config.numBeams }, (_, i) => ({ ids: prompt, score: i === 0 ? 0 : OUT }))
    this.finished = this.running.map(() => ({ ids: prompt, score: OUT }))
    this.slots = this.running.map((_, i) => i)
  }

  get requests(): { slot: number; ids: readonly number[] }[] {
    // Beams that are still the prompt are computed once.
    const seen = new Map<readonly number[], number>()
    return this.running.map(({ ids }, i) => {
      if (!seen.has(ids)) seen.set(ids, this.slots[i])
      return { slot: seen.get(ids)!, ids }
    })
  }

  /** One step on the log probabilities [numBeams][V] after the running beams. True when the search is over. */
  step(
    scores: readonly Float32Array[],
    finishOf: (ids: readonly number[]) => FinishReason | undefined,
    random: () => number,
  ): boolean {
    const { numBeams, eosIds } = this.config
    const vocabulary = scores[0].length
    const sums = new Float32Array(numBeams * vocabulary)
    scores.forEach((row, b) => {
      for (let v = 0; v < vocabulary; v++) sums[b * vocabulary + v] = row[v] + this.running[b].score
    })
    const count = Math.max(2, 1 + eosIds.length) * numBeams
    const candidates = this.choose(sums, count, random).map((index): Candidate => {
      const parent = Math.floor(index / vocabulary)
      const ids = [...this.running[parent].ids, index % vocabulary]
      return { ids, score: sums[index], parent, finish: finishOf(ids) }
    })
    this.continueWith(candidates)
    this.collect(candidates)
    return this.isOver(candidates)
  }

  private choose(sums: Float32Array, count: number, random: () => number): number[] {
    if (!this.config.doSample) return largest(sums, count)
    // Drawing without replacement by probability is taking the largest after adding Gumbel noise.
    return largest(
      sums.map((score) => score - Math.log(-Math.log(random()))),
      count,
    )
  }

  private continueWith(candidates: readonly Candidate[]): void {
    const open = candidates.map((c) => (c.finish ? { ...c, score: Math.fround(c.score + OUT) } : c))
    const next = best(open, this.config.numBeams)
    // The first child of a beam stays in its slot; the others take the slots that became free.
    const free = new Set(this.slots)
    const slots = next.map(({ parent }) => {
      const slot = this.slots[parent]
      return free.delete(slot) ? slot : undefined
    })
    const rest = [...free]
    this.slots = slots.map((slot) => slot ?? rest.pop()!)
    this.running = next
  }

  private collect(candidates: readonly Candidate[]): void {
    const { numBeams, lengthPenalty, earlyStopping } = this.config
    if (!this.canImprove || (earlyStopping === true && this.finished.every((f) => f.finish))) return
    const length = candidates[0].ids.length - this.promptLength
    const ended = candidates
      .slice(0, numBeams)
      .filter((c) => c.finish)
      .map(({ ids, score, finish }) => ({ ids, score: Math.fround(score / length ** lengthPenalty), finish }))
    this.finished = best([...this.finished, ...ended], numBeams)
  }

  private isOver(candidates: readonly Candidate[]): boolean {
    const { lengthPenalty, earlyStopping } = this.config
    const now = candidates[0].ids.length - this.promptLength
    const length = earlyStopping === 'never' && lengthPenalty > 0 ? this.limit.length - this.promptLength : now
    const bestPossible = this.running[0].score / length ** lengthPenalty
    const worst = Math.min(...this.finished.map((f) => f.score))
    if (this.finished.every((f) => f.finish) && !(bestPossible > worst)) this.canImprove = false
    const full = earlyStopping === true && this.finished.every((f) => f.finish)
    return !this.canImprove || full || candidates.every((c) => c.finish)
  }

  result(): GeneratedSequence[] {
    return this.finished.slice(0, this.config.numReturnSequences).map(({ ids, score, finish }) => ({
      ids: [...ids],
      promptLength: this.promptLength,
      finish: finish ?? this.limit.finish,
      score,
    }))
  }
}

/** The best sequences of each prompt, best first. */
export async function beamSearch(
  model: GenerationModel,
  prompts: readonly (readonly number[])[],
  config: GenerationConfig,
  options: GenerateOptions,
  seed: number,
): Promise<GeneratedSequence[]> {
  const batchLength = Math.max(...prompts.map((p) => p.length))
  const stops = stopCondition(config.stops, model.tokenizer)
  const out: GeneratedSequence[] = []
  for (const [p, prompt] of prompts.entries()) {
    const limit = limitOf(config, prompt.length, batchLength, model.contextLength)
    const processors = processorsOf(config, { promptLength: prompt.length, maxLength: limit.length })
    const sequences = new Sequences(model.executable, model.recomputeFrom)
    const search = new Search(prompt, config, limit)
    const random = randomFrom(seed, p)
    const finishOf = (ids: readonly number[]): FinishReason | undefined => {
      if (config.eosIds.includes(ids[ids.length - 1])) return 'eos'
      if (stops(ids)) return 'stop'
      return ids.length >= limit.length ? limit.finish : undefined
    }
    for (let over = false; !over; ) {
      options.signal?.throwIfAborted()
      const requests = search.requests
      const unique = [...new Map(requests.map((r) => [r.slot, r])).values()]
      const scores = await sequences.next(unique)
      unique.forEach(({ ids }, i) => {
        logSoftmax(scores[i])
        for (const processor of processors) processor.apply(ids, scores[i])
      })
      const bySlot = new Map(unique.map(({ slot }, i) => [slot, scores[i]]))
      over = search.step(
        requests.map(({ slot }) => bySlot.get(slot)!),
        finishOf,
        random,
      )
    }
    for (let slot = 0; slot < config.numBeams; slot++) sequences.release(slot)
    out.push(...search.result())
  }
  return out
}
