// Seeded choices of the quantiser: the same for any number of threads, because they are made before it starts.
import type { AdditiveScheme } from '../../weights/scheme.ts'

/** Integers below 2^32 from a seed (splitmix32). */
function generator(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x9e3779b9) >>> 0
    let z = state
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad)
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97)
    return (z ^ (z >>> 15)) >>> 0
  }
}

/** The first `take` of a random order of 0..count-1. */
function draw(count: number, take: number, next: () => number): Int32Array {
  const all = Int32Array.from({ length: count }, (_, i) => i)
  for (let i = 0; i < take; i++) {
    const j = i + Math.floor((next() / 2 ** 32) * (count - i))
    const chosen = all[j]
    all[j] = all[i]
    all[i] = chosen
  }
  return all.subarray(0, take)
}

/**
 * Groups that each codebook's k-means is trained on, in random order: [codebooks, points]. The first 2^bits of them are its start.
 */
export function trainingPoints(scheme: AdditiveScheme, groups: number, perCentroid: number, seed: number): Int32Array {
  const points = Math.min(groups, perCentroid * 2 ** scheme.bits)
  const all = new Int32Array(scheme.codebooks * points)
  const next = generator(seed)
  for (let c = 0; c < scheme.codebooks; c++) all.set(draw(groups, points, next), c * points)
  return all
}
