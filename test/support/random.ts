// Seeded numbers: the same on every machine.

/** Numbers of [0, 1). */
export function seeded(seed: number): () => number {
  let state = Math.imul(seed + 1, 0x9e3779b1) >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

/** A seed from a word: the same tensor name gives the same values. */
export function seedOf(text: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return hash >>> 0
}

/** Sums of three uniform numbers, of about the deviation given, with an outlier in 500 as trained weights have them. */
export function bellShaped(count: number, deviation: number, seed: number): Float32Array {
  const random = seeded(seed)
  return Float32Array.from({ length: count }, () => {
    const value = (random() + random() + random() - 1.5) * 2 * deviation
    return random() < 0.002 ? value * 6 : value
  })
}
