// Sampling filters: each drops unlikely tokens (score -Infinity) by the probabilities over what is still in.
import type { GenerationConfig } from './config.ts'
import { largest, probabilities, survivors } from './select.ts'
import type { Processor } from './types.ts'

type Filter = (scores: Float32Array) => void

/** How many candidates top_h looks at. */
const TOP_H_CANDIDATES = 100

function temperature(by: number): Filter {
  return (scores) => {
    for (let i = 0; i < scores.length; i++) scores[i] /= by
  }
}

/** Keeps what is not below the k-th largest: ties at the border all stay. */
function topK(k: number): Filter {
  return (scores) => {
    const border = scores[largest(scores, k)[Math.min(k, scores.length) - 1]]
    for (let i = 0; i < scores.length; i++) if (scores[i] < border) scores[i] = -Infinity
  }
}

/**
 * Drops, from the least likely on, as much as fits into 1 - p; the `keep` last ones always stay. Of equal ones the first stays,
 * as in a greedy choice (the reference's sort leaves their order open).
 */
function topP(p: number, keep: number): Filter {
  return (scores) => {
    const order = survivors(scores).sort((a, b) => scores[a] - scores[b] || b - a)
    const chance = probabilities(scores, order)
    let sum = 0
    for (let i = 0; i < order.length - keep; i++) {
      sum += chance[i]
      if (sum > 1 - p) return
      scores[order[i]] = -Infinity
    }
  }
}

/** Drops what `isOut` says of its probability, but never the `keep` most likely nor what equals the last of them. */
function drop(scores: Float32Array, keep: number, isOut: (chance: number) => boolean): void {
  const order = survivors(scores)
  const chance = probabilities(scores, order)
  const floor = scores[largest(scores, keep)[Math.min(keep, scores.length) - 1]]
  order.forEach((id, i) => {
    if (isOut(chance[i]) && scores[id] < floor) scores[id] = -Infinity
  })
}

function minP(p: number, keep: number): Filter {
  return (scores) => {
    const top = probabilities(scores, survivors(scores)).reduce((a, b) => Math.max(a, b), 0)
    drop(scores, keep, (chance) => chance < p * top)
  }
}

function entropy(chance: Float64Array): number {
  let sum = 0
  for (const p of chance) if (p > 0) sum -= p * Math.log(p)
  return sum
}

/** Keeps the tokens whose surprise is closest to the expected one, until `mass` is reached. */
function typical(mass: number, keep: number): Filter {
  return (scores) => {
    const ids = survivors(scores)
    const chance = probabilities(scores, ids)
    const expected = entropy(chance)
    const distance = Float64Array.from(chance, (p) => Math.abs(-Math.log(p) - expected))
    const order = ids.map((_, i) => i).sort((a, b) => distance[a] - distance[b] || a - b)
    let sum = 0
    let last = 0
    while (last < order.length - 1 && (sum += chance[order[last]]) < mass) last++
    const border = distance[order[last]]
    order.forEach((i, rank) => {
      if (rank >= keep && distance[i] > border) scores[ids[i]] = -Infinity
    })
  }
}

function epsilon(cutoff: number, keep: number): Filter {
  return (scores) => drop(scores, keep, (p) => p < cutoff)
}

function eta(cutoff: number, keep: number): Filter {
  return (scores) => {
    const spread = entropy(probabilities(scores, survivors(scores)))
    const border = Math.min(cutoff, Math.sqrt(cutoff) * Math.exp(-spread))
    drop(scores, keep, (p) => p < border)
  }
}

/** Keeps the most likely tokens while their share of the entropy stays within `h`. */
function topH(h: number): Filter {
  return (scores) => {
    const order = largest(scores, TOP_H_CANDIDATES)
    const chance = probabilities(scores, order)
    const budget = entropy(chance) * h
    const kept = new Map<number, number>()
    let sum = 0
    order.forEach((id, i) => {
      if (chance[i] > 0) sum -= chance[i] * Math.log(chance[i])
      if (i === 0 || sum <= budget) kept.set(id, scores[id])
    })
    scores.fill(-Infinity)
    for (const [id, score] of kept) scores[id] = score
  }
}

/** The sampling filters of a configuration, in the reference's order. */
export function warpers(config: GenerationConfig): Processor[] {
  const keep = config.numBeams > 1 ? config.eosIds.length + 1 : 1
  const { topP: p, topH: h, minP: m, typicalP: t, epsilonCutoff: e, etaCutoff: n } = config
  const out: Processor[] = []
  const add = (name: string, filter: Filter) => out.push({ name, apply: (_, scores) => filter(scores) })
  if (config.temperature && config.temperature !== 1) add('temperature', temperature(config.temperature))
  if (typeof h === 'number') add('top_h', topH(h))
  if (config.topK) add('top_k', topK(Math.max(config.topK, keep)))
  if (typeof p === 'number' && p < 1) add('top_p', topP(p, keep))
  if (typeof m === 'number') add('min_p', minP(m, keep))
  if (typeof t === 'number' && t < 1) add('typical_p', typical(t, keep))
  if (e && e < 1) add('epsilon_cutoff', epsilon(e, keep))
  if (n && n < 1) add('eta_cutoff', eta(n, keep))
  return out
}
