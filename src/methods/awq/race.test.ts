import { expect, test } from 'vitest'
import { bellShaped, seeded } from '../../../test/support/random.ts'
import { race, stagesOf } from './race.ts'

interface Data {
  readonly batches: number
  readonly perBatch: number
  /** By candidate and sequence. */
  readonly losses: readonly (readonly number[])[]
}

/** Losses in the shape of AWQ's grid: a valley, and sequences that lose more or less of everything. */
function valley(seed: number, batches: number, perBatch: number, noise: number): Data {
  const random = seeded(seed)
  const [middle, depth] = [random() * 20, 0.5 + random()]
  const count = batches * perBatch
  const loud = Array.from({ length: count }, () => 0.2 + random())
  const scatter = bellShaped(20 * count, noise, seed + 1)
  const losses = Array.from({ length: 20 }, (_, c) =>
    loud.map((l, s) => l * (1 + depth * ((c - middle) / 20) ** 2) * Math.exp(scatter[c * count + s])),
  )
  return { batches, perBatch, losses }
}

async function raced({ batches, perBatch, losses }: Data) {
  let tried = 0
  const { best, loss } = await race(losses.length, batches, batches * perBatch, async (candidate, stage) => {
    tried += stage.length
    return stage.flatMap((b) => losses[candidate].slice(b * perBatch, (b + 1) * perBatch))
  })
  return { best, loss, tried: tried / (losses.length * batches) }
}

const sumsOf = ({ losses }: Data) => losses.map((seen) => seen.reduce((a, b) => a + b, 0))
const first = (sums: readonly number[]) => sums.indexOf(Math.min(...sums))

test('the winner is that of all candidates on all sequences, for a part of the work', async () => {
  let tried = 0
  for (let seed = 0; seed < 300; seed++) {
    const data = valley(seed, 64, 2, 0.02)
    const result = await raced(data)
    const sums = sumsOf(data)
    expect(result.best).toBe(first(sums))
    expect(result.loss).toBeCloseTo(sums[result.best], 6)
    tried += result.tried / 300
  }
  expect(tried).toBeLessThan(0.5)
})

test('few sequences: all are tried on all', async () => {
  const data = valley(3, 5, 3, 0)
  expect(await raced(data)).toMatchObject({ best: first(sumsOf(data)), tried: 1 })
})

test('equal candidates: the first wins', async () => {
  const losses = Array.from({ length: 20 }, () => Array.from({ length: 64 }, (_, s) => s))
  expect((await raced({ batches: 32, perBatch: 2, losses })).best).toBe(0)
})

test('a loss that is no number never wins, and none at all gives nobody', async () => {
  const { losses, ...shape } = valley(1, 32, 2, 0.01)
  const best = first(sumsOf({ ...shape, losses }))
  const poisoned = losses.map((seen, c) => (c === best ? [...seen.slice(0, -1), NaN] : seen))
  expect((await raced({ ...shape, losses: poisoned })).best).not.toBe(best)
  expect((await raced({ ...shape, losses: losses.map((seen) => seen.map(() => NaN)) })).best).toBe(-1)
})

test('stages hold every batch once, and the first spreads over the data', () => {
  for (const [batches, sequences] of [
    [1, 2],
    [7, 14],
    [18, 36],
    [64, 128],
    [33, 65],
  ]) {
    const stages = stagesOf(batches, sequences)
    expect(stages.flat().sort((a, b) => a - b)).toEqual(Array.from({ length: batches }, (_, b) => b))
  }
  expect(stagesOf(64, 128).map((stage) => stage.length)).toEqual([4, 4, 8, 16, 32])
  expect(stagesOf(64, 128)[0]).toEqual([0, 32, 16, 48])
})
