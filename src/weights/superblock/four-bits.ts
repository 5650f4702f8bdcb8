// Types whose codes of four bits look up one of 16 values: IQ4_NL, IQ4_XS, MXFP4, NVFP4. Decoders, and what packing needs.
import { type BlockDecoder, half } from './fields.ts'

const { fround } = Math

/** Values of IQ4_NL and IQ4_XS, ascending. */
export const IQ4_VALUES = Int8Array.of(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
/** Twice the values of E2M1. */
export const E2M1_VALUES = Int8Array.of(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)

/** Code i of `2 * width` whose first half lies in the low nibbles of `width` bytes, the second in the high ones. */
function nibble(bytes: Uint8Array, at: number, width: number, i: number): number {
  return i < width ? bytes[at + i] & 15 : bytes[at + i - width] >> 4
}

/** Writes codes as `nibble` reads them; `block` is zero-filled. */
export function packNibbles(codes: Uint8Array, width: number, block: Uint8Array, at: number): void {
  for (let i = 0; i < width; i++) block[at + i] = codes[i] | (codes[i + width] << 4)
}

/** 2^(e - 128): half of what the exponent means, as the table is twice E2M1. */
export const e8m0Half = (e: number): number => 2 ** (e - 128)

/** An unsigned float of 4 exponent and 3 mantissa bits; 0x7f is no number and counts as 0. */
export function ue4m3(x: number): number {
  if (x === 0 || x === 0x7f) return 0
  const exponent = (x >> 3) & 15
  const mantissa = x & 7
  return exponent === 0 ? mantissa * 2 ** -9 : (1 + mantissa / 8) * 2 ** (exponent - 7)
}

export const decodeIq4Nl: BlockDecoder = (bytes, at, out) => {
  const d = half(bytes, at)
  for (let i = 0; i < 32; i++) out[i] = d * IQ4_VALUES[nibble(bytes, at + 2, 16, i)]
}

export const decodeIq4Xs: BlockDecoder = (bytes, at, out) => {
  const d = half(bytes, at)
  const high = bytes[at + 2] | (bytes[at + 3] << 8)
  for (let g = 0; g < 8; g++) {
    const low = (bytes[at + 4 + (g >> 1)] >> (4 * (g & 1))) & 15
    const scale = fround(d * ((low | (((high >> (2 * g)) & 3) << 4)) - 32))
    for (let i = 0; i < 32; i++) out[32 * g + i] = scale * IQ4_VALUES[nibble(bytes, at + 8 + 16 * g, 16, i)]
  }
}

export const decodeMxfp4: BlockDecoder = (bytes, at, out) => {
  const d = e8m0Half(bytes[at])
  for (let i = 0; i < 32; i++) out[i] = d * E2M1_VALUES[nibble(bytes, at + 1, 16, i)]
}

export const decodeNvfp4: BlockDecoder = (bytes, at, out) => {
  for (let g = 0; g < 4; g++) {
    const d = ue4m3(bytes[at + g]) / 2
    for (let i = 0; i < 16; i++) out[16 * g + i] = d * E2M1_VALUES[nibble(bytes, at + 4 + 8 * g, 8, i)]
  }
}
