// Seeded random numbers (xoshiro128**): the same seed gives the same text on every machine.

/** A generator of uniform numbers in [0, 1) with 53 bits. `stream` keeps the rows of a batch apart. */
export function randomFrom(seed: number, stream = 0): () => number {
  // splitmix32 spreads the seed over the state, which must not be all zero.
  let mixed = (seed ^ Math.imul(stream, 0x9e3779b9)) >>> 0
  const next32 = () => {
    mixed = (mixed + 0x9e3779b9) >>> 0
    let z = mixed
    z = Math.imul(z ^ (z >>> 16), 0x85ebca6b)
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35)
    return (z ^ (z >>> 16)) >>> 0
  }
  let [a, b, c, d] = [next32(), next32(), next32(), next32() | 1]
  const rotate = (x: number, by: number) => (x << by) | (x >>> (32 - by))
  const bits = () => {
    const result = Math.imul(rotate(Math.imul(b, 5), 7), 9) >>> 0
    const t = b << 9
    c ^= a
    d ^= b
    b ^= c
    a ^= d
    c ^= t
    d = rotate(d, 11)
    return result
  }
  return () => ((bits() >>> 5) * 0x4000000 + (bits() >>> 6)) / 0x20000000000000
}

/** A seed where the user gave none. */
export function anySeed(): number {
  return globalThis.crypto.getRandomValues(new Uint32Array(1))[0]
}
