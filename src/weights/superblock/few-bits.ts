// Types of one and two bits with one scale a block: TQ1_0 and TQ2_0 (-1, 0, 1), Q2_0 (-1 to 2), Q1_0 (a sign). Decoders and packers.
import { type BlockDecoder, half } from './fields.ts'

/** TQ1_0: runs of bytes that hold several trits each, trit n of byte m being value first + n * bytes + m. */
const TRIT_RUNS = [
  { at: 0, bytes: 32, trits: 5, first: 0 },
  { at: 32, bytes: 16, trits: 5, first: 160 },
  { at: 48, bytes: 4, trits: 4, first: 240 },
] as const
const POWERS_OF_3 = [1, 3, 9, 27, 81]

export const decodeTq1: BlockDecoder = (bytes, at, out) => {
  const d = half(bytes, at + 52)
  for (const run of TRIT_RUNS)
    for (let n = 0; n < run.trits; n++)
      for (let m = 0; m < run.bytes; m++) {
        const rest = (bytes[at + run.at + m] * POWERS_OF_3[n]) & 255
        out[run.first + n * run.bytes + m] = (((rest * 3) >> 8) - 1) * d
      }
}

/** Five trits are a number of base 3, the first most significant, as a fraction of 243 in 256ths; a missing one is 0. */
export function packTq1(trits: Uint8Array, block: Uint8Array): void {
  for (const run of TRIT_RUNS)
    for (let m = 0; m < run.bytes; m++) {
      let q = 0
      for (let n = 0; n < 5; n++) q = 3 * q + (n < run.trits ? trits[run.first + n * run.bytes + m] : 0)
      block[run.at + m] = Math.floor((q * 256 + 242) / 243)
    }
}

export const decodeTq2: BlockDecoder = (bytes, at, out) => {
  const d = half(bytes, at + 64)
  for (let e = 0; e < 256; e++) out[e] = (((bytes[at + 32 * (e >> 7) + (e & 31)] >> (2 * ((e >> 5) & 3))) & 3) - 1) * d
}

/** `block` is zero-filled. */
export function packTq2(codes: Uint8Array, block: Uint8Array): void {
  for (let e = 0; e < 256; e++) block[32 * (e >> 7) + (e & 31)] |= codes[e] << (2 * ((e >> 5) & 3))
}

export const decodeQ10: BlockDecoder = (bytes, at, out) => {
  const d = half(bytes, at)
  for (let i = 0; i < 128; i++) out[i] = (bytes[at + 2 + (i >> 3)] >> (i & 7)) & 1 ? d : -d
}

export const decodeQ20: BlockDecoder = (bytes, at, out) => {
  const d = half(bytes, at)
  for (let i = 0; i < 64; i++) out[i] = (((bytes[at + 2 + (i >> 2)] >> (2 * (i & 3))) & 3) - 1) * d
}
