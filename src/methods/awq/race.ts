// Finds the candidate with the least loss over all sequences without running every candidate on every one: after 8, 16, 32 ... of them,
// those that are surely behind drop out. Sequences are the units that scatter: what they lose differs, but for all candidates alike.

/** Sequences of the first stage; where there are fewer than twice as many, nobody drops out. */
const FIRST = 8
/**
 * Standard errors of the difference, sequence by sequence, to the leader that a candidate must be behind. Far beyond chance: what drops out
 * is not a candidate that the whole data could have chosen.
 */
const BEHIND = 8

/** What candidate `candidate` loses on each sequence of these batches. */
export type Lost = (candidate: number, batches: readonly number[]) => Promise<readonly number[]>

export interface Winner {
  /** -1 where no loss is a number. */
  readonly best: number
  /** Its loss over all sequences. */
  readonly loss: number
}

/** The first candidate of least loss. */
export async function race(candidates: number, batches: number, sequences: number, lost: Lost): Promise<Winner> {
  const losses = new Map<number, number[]>(Array.from({ length: candidates }, (_, c) => [c, []]))
  for (const stage of stagesOf(batches, sequences)) {
    for (const [candidate, seen] of losses) seen.push(...(await lost(candidate, stage)))
    dropHopeless(losses)
  }
  let [best, least] = [-1, Infinity]
  for (const [candidate, seen] of losses) {
    const loss = sumOf(seen)
    if (loss < least) [best, least] = [candidate, loss]
  }
  return { best, loss: least }
}

/** Batches of each stage: 8 sequences, then as many again as there were; each stage spreads over the data. */
export function stagesOf(batches: number, sequences: number): number[][] {
  const perBatch = sequences / batches
  // Multiples of the largest power of two, of half of it ...: any beginning is spread over all of them.
  const order = new Set<number>()
  for (let step = 2 ** Math.ceil(Math.log2(batches)); step >= 1; step /= 2)
    for (let b = 0; b < batches; b += step) order.add(b)
  const unique = [...order]
  const stages: number[][] = []
  let done = 0
  while (done < batches) {
    const wanted = Math.max(Math.ceil(FIRST / perBatch), done)
    const count = done + 2 * wanted > batches ? batches - done : wanted
    stages.push(unique.slice(done, done + count))
    done += count
  }
  return stages
}

function sumOf(values: readonly number[]): number {
  return values.reduce((sum, v) => sum + v, 0)
}

/** Drops candidates that are behind the leader, or whose loss is no number. */
function dropHopeless(losses: Map<number, number[]>): void {
  for (const [candidate, seen] of losses) if (!Number.isFinite(sumOf(seen))) losses.delete(candidate)
  const least = Math.min(...[...losses.values()].map(sumOf))
  const leader = [...losses.values()].find((seen) => sumOf(seen) === least)
  for (const [candidate, seen] of losses) if (seen !== leader && isBehind(seen, leader!)) losses.delete(candidate)
}

function isBehind(seen: readonly number[], leader: readonly number[]): boolean {
  const gaps = seen.map((loss, i) => loss - leader[i])
  const mean = sumOf(gaps) / gaps.length
  const variance = sumOf(gaps.map((gap) => (gap - mean) ** 2)) / (gaps.length - 1)
  return gaps.length >= FIRST && mean > BEHIND * Math.sqrt(variance / gaps.length)
}
