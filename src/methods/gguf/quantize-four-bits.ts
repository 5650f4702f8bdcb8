// Four bits that look up a value: IQ4_NL and IQ4_XS search the scale of each group of 32, MXFP4 and NVFP4 take it from the largest value.
import { f16Bits } from '../../core/half.ts'
import { putHalf } from '../../weights/superblock/fields.ts'
import { E2M1_VALUES, e8m0Half, IQ4_VALUES, packNibbles, ue4m3 } from '../../weights/superblock/four-bits.ts'
import type { BlockQuantizer } from './block-quantizer.ts'
import { clamp, GROUP_EPSILON, nearestInt } from './rounding.ts'

const { fround, abs, sqrt } = Math

/** Half way between neighbours: the first value that belongs to the upper one. Differences near the middle are exact in float32. */
const MIDDLES = Float32Array.from({ length: 15 }, (_, i) => (IQ4_VALUES[i] + IQ4_VALUES[i + 1]) / 2)

/** Code of the value of IQ4 that is nearest; of two, the upper; NaN: the last. */
function nearestIq4(value: number): number {
  let code = value < MIDDLES[7] ? 0 : 8
  if (!(value < MIDDLES[code + 3])) code += 4
  if (!(value < MIDDLES[code + 1])) code += 2
  return value < MIDDLES[code] ? code : code + 1
}

/** The scale with which 32 values fit best; 0 for values that count as zero. */
function searchScale(x: Float32Array, at: number, weights: Float32Array): number {
  let max = 0
  for (let i = at; i < at + 32; i++) if (abs(x[i]) > abs(max)) max = x[i]
  if (abs(max) < GROUP_EPSILON) return 0
  const sumsAt = (inverse: number) => {
    let sumqx = 0
    let sumq2 = 0
    for (let i = 0; i < 32; i++) {
      const q = IQ4_VALUES[nearestIq4(fround(inverse * x[at + i]))]
      const wq = fround(weights[i] * q)
      sumqx = fround(sumqx + fround(wq * x[at + i]))
      sumq2 = fround(sumq2 + fround(wq * q))
    }
    return { sumqx, sumq2 }
  }
  const first = sumsAt(fround(1 / fround(-max / IQ4_VALUES[0])))
  let scale = first.sumq2 > 0 ? fround(first.sumqx / first.sumq2) : 0
  let best = fround(scale * first.sumqx)
  for (let step = -7; step <= 7; step++) {
    const { sumqx, sumq2 } = sumsAt(fround((step + IQ4_VALUES[0]) / max))
    if (!(sumq2 > 0 && fround(sumqx * sumqx) > fround(best * sumq2))) continue
    scale = fround(sumqx / sumq2)
    best = fround(scale * sumqx)
  }
  return scale
}

/** Scales of the groups of 32 of a block. */
function searchScales(x: Float32Array, importance: Float32Array | undefined): Float32Array {
  let squares = 0
  for (const v of x) squares = fround(squares + fround(v * v))
  const sigma2 = fround(squares * (2 / x.length))
  const weights = new Float32Array(32)
  return Float32Array.from({ length: x.length / 32 }, (_, g) => {
    for (let i = 0; i < 32; i++) {
      const v2 = fround(x[32 * g + i] * x[32 * g + i])
      weights[i] = importance ? importance[32 * g + i] * fround(sqrt(fround(sigma2 + v2))) : v2
    }
    return searchScale(x, 32 * g, weights)
  })
}

/** The codes of 32 values, with the unrounded scale. */
function codesOf(x: Float32Array, at: number, scale: number): Uint8Array {
  const inverse = scale === 0 ? 0 : fround(1 / scale) // a NaN is not zero
  return Uint8Array.from({ length: 32 }, (_, i) => nearestIq4(fround(inverse * x[at + i])))
}

export const quantizeIq4Nl: BlockQuantizer = (x, block, importance) => {
  const [scale] = searchScales(x, importance)
  putHalf(block, 0, f16Bits(scale))
  packNibbles(codesOf(x, 0, scale), 16, block, 2)
}

export const quantizeIq4Xs: BlockQuantizer = (x, block, importance) => {
  const scales = searchScales(x, importance)
  let max = 0
  for (const scale of scales) if (abs(scale) > abs(max)) max = scale
  const d = fround(-max / 32)
  const inverse = d === 0 ? 0 : fround(1 / d)
  putHalf(block, 0, f16Bits(d))
  for (let g = 0; g < 8; g++) {
    const l = clamp(nearestInt(fround(inverse * scales[g])), -32, 31)
    const code = l + 32
    block[2 + (g >> 2)] |= (code >> 4) << (2 * (g & 3))
    block[4 + (g >> 1)] |= (code & 15) << (4 * (g & 1))
    packNibbles(codesOf(x, 32 * g, fround(d * l)), 16, block, 8 + 16 * g)
  }
}

/** Code of the first value of E2M1 that is nearest when multiplied by d. */
function nearestE2m1(x: number, d: number): number {
  let code = 0
  let least = abs(fround(fround(E2M1_VALUES[0] * d) - x))
  for (let i = 1; i < 16; i++) {
    const error = abs(fround(fround(E2M1_VALUES[i] * d) - x))
    if (!(error < least)) continue
    code = i
    least = error
  }
  return code
}

function largest(x: Float32Array, from: number, to: number): number {
  let max = 0
  for (let i = from; i < to; i++) if (abs(x[i]) > max) max = abs(x[i])
  return max
}

export const quantizeMxfp4: BlockQuantizer = (x, block) => {
  const max = largest(x, 0, 32)
  block[0] = max > 0 ? Math.floor(fround(Math.log2(max))) + 125 : 0 // as a byte: what lies below wraps
  const d = e8m0Half(block[0])
  packNibbles(
    Uint8Array.from(x, (v) => nearestE2m1(v, d)),
    16,
    block,
    1,
  )
}

const u32 = new Uint32Array(1)
const f32 = new Float32Array(u32.buffer)

/** The unsigned E4M3 nearest to x, half up; at most 448. */
function toUe4m3(x: number): number {
  if (!(x > 0)) return 0
  f32[0] = Math.min(x, 448)
  const exponent = (u32[0] >>> 23) - 120
  if (exponent <= 0) return Math.min(7, Math.trunc(fround(fround(x * 512) + 0.5)))
  // a carry out of the mantissa raises the exponent
  return Math.min(0x7e, (exponent << 3) + ((u32[0] >>> 20) & 7) + ((u32[0] >>> 19) & 1))
}

export const quantizeNvfp4: BlockQuantizer = (x, block) => {
  for (let g = 0; g < 4; g++) {
    block[g] = toUe4m3(fround(largest(x, 16 * g, 16 * g + 16) / 6))
    const d = ue4m3(block[g]) / 2
    const codes = Uint8Array.from(x.subarray(16 * g, 16 * g + 16), (v) => nearestE2m1(v, d))
    packNibbles(codes, 8, block, 4 + 8 * g)
  }
}
