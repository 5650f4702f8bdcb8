// Q2_K to Q6_K: superblocks of 256 values whose groups have small integer scales. Decoders and packers of one block.
import { type BlockDecoder, half, putHalf } from './fields.ts'

const { fround } = Math

/** Byte and shift of the 2 bits of element e: halves of 128 in 32 bytes each, four runs of 32 one above the other. */
const twoBits = (e: number): [byte: number, shift: number] => [32 * (e >> 7) + (e & 31), 2 * ((e >> 5) & 3)]

export const decodeQ2K: BlockDecoder = (bytes, at, out) => {
  const d = half(bytes, at + 80)
  const dmin = half(bytes, at + 82)
  for (let e = 0; e < 256; e++) {
    const group = bytes[at + (e >> 4)]
    const [byte, shift] = twoBits(e)
    const q = (bytes[at + 16 + byte] >> shift) & 3
    out[e] = fround(fround(d * (group & 15)) * q) - fround(dmin * (group >> 4))
  }
}

/** The 6-bit scale j of the 12 packed bytes: four low bits in a nibble, two high ones in the last four bytes. */
function scale3(bytes: Uint8Array, at: number, j: number): number {
  const low = j < 8 ? bytes[at + j] & 15 : bytes[at + j - 8] >> 4
  return low | (((bytes[at + 8 + (j & 3)] >> (2 * (j >> 2))) & 3) << 4)
}

export const decodeQ3K: BlockDecoder = (bytes, at, out) => {
  const d = half(bytes, at + 108)
  for (let e = 0; e < 256; e++) {
    const scale = fround(d * (scale3(bytes, at + 96, e >> 4) - 32))
    const [byte, shift] = twoBits(e)
    const q = (bytes[at + 32 + byte] >> shift) & 3
    const high = (bytes[at + (e & 31)] >> (e >> 5)) & 1
    out[e] = scale * (q - (high ? 0 : 4))
  }
}

/** The 6-bit scale and min number j of the 12 packed bytes at `at`. */
function scaleMin(bytes: Uint8Array, at: number, j: number): [number, number] {
  const b = (i: number) => bytes[at + i]
  if (j < 4) return [b(j) & 63, b(j + 4) & 63]
  return [(b(j + 4) & 15) | ((b(j - 4) >> 6) << 4), (b(j + 4) >> 4) | ((b(j) >> 6) << 4)]
}

export const decodeQ4K: BlockDecoder = (bytes, at, out) => decodeQ45(bytes, at, out, false)
export const decodeQ5K: BlockDecoder = (bytes, at, out) => decodeQ45(bytes, at, out, true)

function decodeQ45(bytes: Uint8Array, at: number, out: Float32Array, fiveBits: boolean): void {
  const d = half(bytes, at)
  const dmin = half(bytes, at + 2)
  const high = at + 16
  const low = fiveBits ? at + 48 : at + 16
  for (let g = 0; g < 8; g++) {
    const [s, m] = scaleMin(bytes, at + 4, g)
    const scale = fround(d * s)
    const min = fround(dmin * m)
    for (let l = 0; l < 32; l++) {
      const byte = bytes[low + 32 * (g >> 1) + l]
      let q = g & 1 ? byte >> 4 : byte & 15
      if (fiveBits) q |= ((bytes[high + l] >> g) & 1) << 4
      out[32 * g + l] = fround(scale * q) - min
    }
  }
}

export const decodeQ6K: BlockDecoder = (bytes, at, out) => {
  const d = half(bytes, at + 208)
  for (let e = 0; e < 256; e++) {
    const n = e >> 7
    const k = (e >> 5) & 3
    const l = e & 31
    const low = bytes[at + 64 * n + (k & 1 ? 32 : 0) + l]
    const q = (k < 2 ? low & 15 : low >> 4) | (((bytes[at + 128 + 32 * n + l] >> (2 * k)) & 3) << 4)
    const scale = (bytes[at + 192 + (e >> 4)] << 24) >> 24
    out[e] = fround(d * scale) * (q - 32)
  }
}

/** Writes one Q2_K superblock, which is zero-filled. `groups`: scale (low) and minimum (high) of the 16 groups, four bits each. */
export function packQ2(
  { scale, min, groups, codes }: { scale: number; min: number; groups: Uint8Array; codes: Uint8Array },
  block: Uint8Array,
): void {
  block.set(groups)
  for (let e = 0; e < 256; e++) {
    const [byte, shift] = twoBits(e)
    block[16 + byte] |= codes[e] << shift
  }
  putHalf(block, 80, scale)
  putHalf(block, 82, min)
}

/** Writes one Q3_K superblock, which is zero-filled. `scales`: 0..63 for -32..31; `codes`: 0..7 for -4..3. */
export function packQ3(
  { scale, scales, codes }: { scale: number; scales: Uint8Array; codes: Uint8Array },
  block: Uint8Array,
): void {
  for (let e = 0; e < 256; e++) {
    const [byte, shift] = twoBits(e)
    block[e & 31] |= (codes[e] >> 2) << (e >> 5)
    block[32 + byte] |= (codes[e] & 3) << shift
  }
  for (let j = 0; j < 16; j++) {
    block[96 + (j & 7)] |= (scales[j] & 15) << (j < 8 ? 0 : 4)
    block[104 + (j & 3)] |= (scales[j] >> 4) << (2 * (j >> 2))
  }
  putHalf(block, 108, scale)
}

/** The integers of a Q4_K or Q5_K superblock: half bits, 6-bit codes of the 8 groups, codes of the 256 values. */
export interface Q45Parts {
  readonly scale: number
  readonly min: number
  readonly scales: Uint8Array
  readonly minima: Uint8Array
  readonly codes: Uint8Array
}

/** Writes one Q4_K or Q5_K superblock; `block` is zero-filled. */
export function packQ45(type: 'Q4_K' | 'Q5_K', parts: Q45Parts, block: Uint8Array): void {
  const { scales, minima, codes } = parts
  putHalf(block, 0, parts.scale)
  putHalf(block, 2, parts.min)
  for (let j = 0; j < 4; j++) {
    block[4 + j] = scales[j] | ((scales[j + 4] >> 4) << 6)
    block[8 + j] = minima[j] | ((minima[j + 4] >> 4) << 6)
    block[12 + j] = (scales[j + 4] & 15) | ((minima[j + 4] & 15) << 4)
  }
  const high = 16
  const low = type === 'Q5_K' ? 48 : 16
  for (let e = 0; e < 256; e++) {
    const g = e >> 5
    const l = e & 31
    block[low + 32 * (g >> 1) + l] |= (codes[e] & 15) << (g & 1 ? 4 : 0)
    if (type === 'Q5_K') block[high + l] |= (codes[e] >> 4) << g
  }
}

/** Writes one Q6_K superblock; `block` is zero-filled. */
export function packQ6(parts: { scale: number; scales: Int8Array; codes: Uint8Array }, block: Uint8Array): void {
  const { scales, codes } = parts
  for (let e = 0; e < 256; e++) {
    const n = e >> 7
    const k = (e >> 5) & 3
    const l = e & 31
    block[64 * n + (k & 1 ? 32 : 0) + l] |= (codes[e] & 15) << (k < 2 ? 0 : 4)
    block[128 + 32 * n + l] |= (codes[e] >> 4) << (2 * k)
  }
  for (let g = 0; g < 16; g++) block[192 + g] = scales[g]
  putHalf(block, 208, parts.scale)
}
