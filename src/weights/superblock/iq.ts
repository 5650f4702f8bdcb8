// The blocks of 256 values whose codes number rows of a grid (grids.ts): 8 or 4 values at once, their signs apart.
import { fromF16Bits } from '../../core/half.ts'
import type { BlockDecoder } from './fields.ts'
import { half } from './fields.ts'
import { gridOf } from './grids.ts'

const { fround } = Math

/** Signs of 8 values from 7 bits: bit 7 is their parity, so that the number of minuses is even. */
export function evenSigns(bits: number): number {
  let parity = bits ^ (bits >> 4)
  parity ^= parity >> 2
  return bits | (((parity ^ (parity >> 1)) & 1) << 7)
}

/** Writes row `row` of a grid, times scale, minus where bit i of `signs` is set. */
function putRow(
  { values, size }: { values: Int8Array; size: number },
  row: number,
  scale: number,
  signs: number,
  out: Float32Array,
  at: number,
): void {
  for (let i = 0; i < size; i++) {
    const value = scale * values[row * size + i]
    out[at + i] = (signs >> i) & 1 ? -value : value
  }
}

function word(bytes: Uint8Array, at: number): number {
  return (bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24)) >>> 0
}

/** (d * (0.5 + code)) * factor: the 4-bit scales of IQ2 and IQ3_XXS. */
function halfStep(d: number, code: number, factor: number): number {
  return fround(fround(d * (0.5 + code)) * factor)
}

// Groups of 32: rows one byte each, then a word of four times 7 signs and a scale on top.
export const decodeIq2xxs: BlockDecoder = (bytes, at, out) => {
  const grid = gridOf('IQ2_XXS')
  const d = half(bytes, at)
  for (let g = 0; g < 8; g++) {
    const rows = at + 2 + 8 * g
    const tail = word(bytes, rows + 4)
    const scale = halfStep(d, tail >>> 28, 0.25)
    for (let k = 0; k < 4; k++)
      putRow(grid, bytes[rows + k], scale, evenSigns((tail >>> (7 * k)) & 127), out, 32 * g + 8 * k)
  }
}

// 32 numbers of 16 bits, row below signs; a nibble of scale for 16 values.
export const decodeIq2xs: BlockDecoder = (bytes, at, out) => {
  const grid = gridOf('IQ2_XS')
  const d = half(bytes, at)
  for (let k = 0; k < 32; k++) {
    const code = bytes[at + 2 + 2 * k] | (bytes[at + 3 + 2 * k] << 8)
    const scale = halfStep(d, (bytes[at + 66 + (k >> 2)] >> (k & 2 ? 4 : 0)) & 15, 0.25)
    putRow(grid, code & 511, scale, evenSigns(code >> 9), out, 8 * k)
  }
}

// Low bytes of 32 rows, 32 bytes of signs, 2 high bits of each row, a nibble of scale for 16 values.
export const decodeIq2s: BlockDecoder = (bytes, at, out) => {
  const grid = gridOf('IQ2_S')
  const d = half(bytes, at)
  for (let k = 0; k < 32; k++) {
    const high = (bytes[at + 66 + (k >> 2)] >> (2 * (k & 3))) & 3
    const scale = halfStep(d, (bytes[at + 74 + (k >> 2)] >> (k & 2 ? 4 : 0)) & 15, 0.25)
    putRow(grid, bytes[at + 2 + k] | (high << 8), scale, bytes[at + 34 + k], out, 8 * k)
  }
}

// 64 rows of 4, one byte each, then for each 32 values the word of IQ2_XXS.
export const decodeIq3xxs: BlockDecoder = (bytes, at, out) => {
  const grid = gridOf('IQ3_XXS')
  const d = half(bytes, at)
  for (let g = 0; g < 8; g++) {
    const tail = word(bytes, at + 66 + 4 * g)
    const scale = halfStep(d, tail >>> 28, 0.5)
    for (let k = 0; k < 8; k++) {
      const signs = evenSigns((tail >>> (7 * (k >> 1))) & 127) >> (k & 1 ? 4 : 0)
      putRow(grid, bytes[at + 2 + 8 * g + k], scale, signs, out, 32 * g + 4 * k)
    }
  }
}

// Low bytes of 64 rows of 4, their high bits, 32 bytes of signs, a nibble of scale for 32 values.
export const decodeIq3s: BlockDecoder = (bytes, at, out) => {
  const grid = gridOf('IQ3_S')
  const d = half(bytes, at)
  for (let g = 0; g < 8; g++) {
    const code = (bytes[at + 106 + (g >> 1)] >> (g & 1 ? 4 : 0)) & 15
    const scale = fround(d * (1 + 2 * code))
    for (let k = 0; k < 8; k++) {
      const row = bytes[at + 2 + 8 * g + k] | (((bytes[at + 66 + g] >> k) & 1) << 8)
      const signs = bytes[at + 74 + 4 * g + (k >> 1)] >> (k & 1 ? 4 : 0)
      putRow(grid, row, scale, signs, out, 32 * g + 4 * k)
    }
  }
}

const DELTA = 0.125

/** Writes scale * (value + delta) for the 8 values of a row of IQ1. */
function putShiftedRow(row: number, scale: number, delta: number, out: Float32Array, at: number): void {
  const { values } = gridOf('IQ1')
  for (let i = 0; i < 8; i++) out[at + i] = scale * (values[8 * row + i] + delta)
}

// Low bytes of 32 rows; for each 32 values 16 bits: 3 high bits of four rows, 3 bits of scale, the sign of the shift.
export const decodeIq1s: BlockDecoder = (bytes, at, out) => {
  const d = half(bytes, at)
  for (let g = 0; g < 8; g++) {
    const high = bytes[at + 34 + 2 * g] | (bytes[at + 35 + 2 * g] << 8)
    const scale = fround(d * (2 * ((high >> 12) & 7) + 1))
    const delta = high & 0x8000 ? -DELTA : DELTA
    for (let k = 0; k < 4; k++) {
      const row = bytes[at + 2 + 4 * g + k] | (((high >> (3 * k)) & 7) << 8)
      putShiftedRow(row, scale, delta, out, 32 * g + 8 * k)
    }
  }
}

/** The half scale of IQ1_M lies in the top nibbles of its four words of scales. */
export function iq1mScale(bytes: Uint8Array, at: number): number {
  let bits = 0
  for (let i = 0; i < 4; i++) bits |= (bytes[at + 49 + 2 * i] >> 4) << (4 * i)
  return bits
}

// Low bytes of 32 rows; a nibble a row: 3 high bits and the sign of its shift; 3 bits of scale for 16 values.
export const decodeIq1m: BlockDecoder = (bytes, at, out) => {
  const d = fromF16Bits(iq1mScale(bytes, at))
  for (let g = 0; g < 16; g++) {
    const scales = bytes[at + 48 + 2 * (g >> 2)] | (bytes[at + 49 + 2 * (g >> 2)] << 8)
    const scale = fround(d * (2 * ((scales >> (3 * (g & 3))) & 7) + 1))
    for (let k = 0; k < 2; k++) {
      const nibble = bytes[at + 32 + g] >> (4 * k)
      const row = bytes[at + 2 * g + k] | ((nibble & 7) << 8)
      putShiftedRow(row, scale, nibble & 8 ? -DELTA : DELTA, out, 16 * g + 8 * k)
    }
  }
}
