// GGUF superblocks of 256 values: Q4_K, Q5_K and Q6_K: their fields, packing, and the decoder in float32, one rounding an operation,
// left to right.
import { fromF16Bits } from '../core/half.ts'

const { fround } = Math

export type SuperblockType = 'Q4_K' | 'Q5_K' | 'Q6_K'

/** Values in a superblock. */
export const SUPERBLOCK_SIZE = 256

/**
 * Bytes of each field, in file order. Q4_K, Q5_K: value = (scale * s_g) * q - (min * m_g), groups of 32, s and m 6 bits each in `groups`.
 * Q6_K: value = (scale * s_g) * (q - 32), groups of 16, s int8.
 */
export const SUPERBLOCK_FIELDS: Readonly<Record<SuperblockType, Readonly<Record<string, number>>>> = {
  Q4_K: { scale: 2, min: 2, groups: 12, codes: 128 },
  Q5_K: { scale: 2, min: 2, groups: 12, high: 32, codes: 128 },
  Q6_K: { codes: 128, high: 64, groups: 16, scale: 2 },
}

/** Bytes of one superblock: the sum of its fields. */
export const SUPERBLOCK_BYTES = { Q4_K: 144, Q5_K: 176, Q6_K: 210 } as const

export function isSuperblockType(type: string): type is SuperblockType {
  return type in SUPERBLOCK_FIELDS
}

/** The 6-bit scale and min number j of the 12 packed bytes at `at`. */
function scaleMin(bytes: Uint8Array, at: number, j: number): [number, number] {
  const b = (i: number) => bytes[at + i]
  if (j < 4) return [b(j) & 63, b(j + 4) & 63]
  return [(b(j + 4) & 15) | ((b(j - 4) >> 6) << 4), (b(j + 4) >> 4) | ((b(j) >> 6) << 4)]
}

function half(bytes: Uint8Array, at: number): number {
  return fromF16Bits(bytes[at] | (bytes[at + 1] << 8))
}

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

function decodeQ6(bytes: Uint8Array, at: number, out: Float32Array): void {
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

/** Flat elements [from, to) of blocks stored one after another. */
export function decodeSuperblocks(type: SuperblockType, bytes: Uint8Array, from: number, to: number): Float32Array {
  const size = SUPERBLOCK_BYTES[type]
  const out = new Float32Array(to - from)
  const block = new Float32Array(256)
  for (let b = Math.floor(from / 256); b * 256 < to; b++) {
    if (type === 'Q6_K') decodeQ6(bytes, b * size, block)
    else decodeQ45(bytes, b * size, block, type === 'Q5_K')
    const start = Math.max(from, b * 256)
    const end = Math.min(to, b * 256 + 256)
    out.set(block.subarray(start - b * 256, end - b * 256), start - from)
  }
  return out
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
  for (let e = 0; e < SUPERBLOCK_SIZE; e++) {
    const g = e >> 5
    const l = e & 31
    block[low + 32 * (g >> 1) + l] |= (codes[e] & 15) << (g & 1 ? 4 : 0)
    if (type === 'Q5_K') block[high + l] |= (codes[e] >> 4) << g
  }
}

/** Writes one Q6_K superblock; `block` is zero-filled. */
export function packQ6(parts: { scale: number; scales: Int8Array; codes: Uint8Array }, block: Uint8Array): void {
  const { scales, codes } = parts
  for (let e = 0; e < SUPERBLOCK_SIZE; e++) {
    const n = e >> 7
    const k = (e >> 5) & 3
    const l = e & 31
    block[64 * n + (k & 1 ? 32 : 0) + l] |= (codes[e] & 15) << (k < 2 ? 0 : 4)
    block[128 + 32 * n + l] |= (codes[e] >> 4) << (2 * k)
  }
  for (let g = 0; g < 16; g++) block[192 + g] = scales[g]
  putHalf(block, 208, parts.scale)
}

function putHalf(bytes: Uint8Array, at: number, bits: number): void {
  bytes[at] = bits & 255
  bytes[at + 1] = bits >> 8
}
