// One and two bits with the largest or the mean magnitude as scale: TQ1_0, TQ2_0, Q2_0, Q1_0. An importance matrix changes nothing.
import { f16Bits } from '../../core/half.ts'
import { packTq1, packTq2 } from '../../weights/superblock/few-bits.ts'
import { putHalf } from '../../weights/superblock/fields.ts'
import type { BlockQuantizer } from './block-quantizer.ts'
import { clamp, roundHalfAway } from './rounding.ts'

const { fround, abs } = Math

/** The largest magnitude, and its inverse or 0. */
function largest(x: Float32Array): { scale: number; inverse: number } {
  let scale = 0
  for (const v of x) if (abs(v) > scale) scale = abs(v)
  return { scale, inverse: scale ? fround(1 / scale) : 0 }
}

/** 0, 1, 2 for -1, 0, 1; 1 where the scale is so small that its inverse is infinite, as C's lroundf gives on x86. */
function trits(x: Float32Array, inverse: number): Uint8Array {
  return Uint8Array.from(x, (v) => {
    const scaled = fround(v * inverse)
    return Number.isFinite(scaled) ? roundHalfAway(scaled) + 1 : 1
  })
}

export const quantizeTq1: BlockQuantizer = (x, block) => {
  const { scale, inverse } = largest(x)
  packTq1(trits(x, inverse), block)
  putHalf(block, 52, f16Bits(scale))
}

export const quantizeTq2: BlockQuantizer = (x, block) => {
  const { scale, inverse } = largest(x)
  packTq2(trits(x, inverse), block)
  putHalf(block, 64, f16Bits(scale))
}

export const quantizeQ20: BlockQuantizer = (x, block) => {
  const { scale, inverse } = largest(x)
  putHalf(block, 0, f16Bits(scale))
  for (let i = 0; i < 64; i++) {
    const scaled = fround(x[i] * inverse)
    const code = Number.isFinite(scaled) ? clamp(roundHalfAway(scaled) + 1, 0, 3) : 0
    block[2 + (i >> 2)] |= code << (2 * (i & 3))
  }
}

export const quantizeQ10: BlockQuantizer = (x, block) => {
  let sum = 0
  for (const v of x) sum = fround(sum + abs(v))
  putHalf(block, 0, f16Bits(fround(sum / 128)))
  for (let i = 0; i < 128; i++) if (x[i] >= 0) block[2 + (i >> 3)] |= 1 << (i & 7)
}
