// Sequences in the cache of an Executable: asks for the scores after each, and runs only the tokens that its slot does not hold yet.
import type { Executable, RowBatch } from '../backends/types.ts'

/** One sequence and the slot that computes it. */
export interface Request {
  readonly slot: number
  readonly ids: readonly number[]
}

interface Missing extends Request {
  /** First position that has to be computed. */
  readonly from: number
}

function batchOf(requests: readonly Missing[], phase: RowBatch['phase']): RowBatch {
  const ids: number[] = []
  const positions: number[] = []
  const slots: number[] = []
  const outputs: number[] = []
  for (const request of requests) {
    for (let at = request.from; at < request.ids.length; at++) {
      ids.push(request.ids[at])
      positions.push(at)
      slots.push(request.slot)
    }
    outputs.push(ids.length - 1)
  }
  const array = (values: number[]) => Int32Array.from(values)
  return { ids: array(ids), positions: array(positions), slots: array(slots), outputs: array(outputs), phase }
}

function commonLength(a: readonly number[], b: readonly number[]): number {
  let n = 0
  while (n < a.length && n < b.length && a[n] === b[n]) n++
  return n
}

/**
 * Keeps track of what each slot holds. Nothing else may run the same Executable between two calls; a fresh object forgets
 * what was there before.
 */
export class Sequences {
  private readonly held = new Map<number, number[]>()
  private readonly executable: Executable
  private readonly recomputeFrom: number

  /**
   * `recomputeFrom`: a sequence that reaches this length with a shorter cache is computed anew (longrope changes its frequencies
   * there, and the reference does not keep keys of the old ones).
   */
  constructor(executable: Executable, recomputeFrom: number = Number.POSITIVE_INFINITY) {
    this.executable = executable
    this.recomputeFrom = recomputeFrom
  }

  /** Scores [V] of the token after each sequence; they are the caller's own. */
  async next(requests: readonly Request[]): Promise<Float32Array[]> {
    const missing = requests.map((request) => this.prepare(request))
    const isStep = (m: Missing) => m.from > 0 && m.from + 1 === m.ids.length
    const out = new Array<Float32Array>(requests.length)
    for (const phase of ['prefill', 'decode'] as const) {
      const chosen = missing.filter((m) => isStep(m) === (phase === 'decode'))
      if (chosen.length === 0) continue
      const scores = await this.executable.run(batchOf(chosen, phase))
      const width = scores.length / chosen.length
      chosen.forEach((m, i) => {
        out[missing.indexOf(m)] = scores.slice(i * width, (i + 1) * width)
        this.held.set(m.slot, [...m.ids])
      })
    }
    return out
  }

  /** Cuts the slot back to what it shares with the sequence; the last token is always computed, for its scores. */
  private prepare({ slot, ids }: Request): Missing {
    const held = this.held.get(slot)
    let from = held ? Math.min(commonLength(held, ids), ids.length - 1) : 0
    if (ids.length >= this.recomputeFrom && from < this.recomputeFrom) from = 0
    if (!held || held.length > from) this.executable.truncate(slot, from)
    // Until the run succeeds the slot holds no more than this.
    this.held.set(slot, ids.slice(0, from))
    return { slot, ids, from }
  }

  /** Frees a slot's cache. */
  release(slot: number): void {
    this.held.delete(slot)
    this.executable.truncate(slot, 0)
  }
}
