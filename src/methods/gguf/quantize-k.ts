// Superblocks of 256: Q4_K and Q5_K (8 groups of 32, 6-bit scales and minima) and Q6_K (16 groups of 16, int8 scales), as ggml's
// quantize_row_*_ref and, with importance weights, quantize_row_*_impl. The last rounding of codes uses the half-rounded scales.
import { f16Bits, fromF16Bits } from '../../core/half.ts'
import { packQ6, packQ45 } from '../../weights/superblock/k.ts'
import type { BlockQuantizer } from './quantize-superblocks.ts'
import { clamp, GROUP_EPSILON, nearestInt } from './rounding.ts'
import { type Group, type Sweep, searchAsymmetric, searchPositive, searchSymmetric } from './search.ts'

const { fround, abs, sqrt } = Math
const SIZE = 256

interface Q45 {
  readonly limit: number
  readonly plain: Sweep
  readonly weighted: Sweep
}

function q45(limit: number, low: number, steps: number): Q45 {
  return {
    limit,
    plain: { limit, low, delta: fround(0.1), steps },
    weighted: { limit, low: fround(-0.9), delta: fround(0.05), steps: 36 },
  }
}
const Q45_TYPES = { Q4_K: q45(15, -1, 20), Q5_K: q45(31, -0.5, 15) }

export const quantizeQ4K: BlockQuantizer = (x, block, importance) => quantizeQ45('Q4_K', x, block, importance)
export const quantizeQ5K: BlockQuantizer = (x, block, importance) => quantizeQ45('Q5_K', x, block, importance)

function squares(x: Float32Array, from: number, to: number): number {
  let sum = 0
  for (let i = from; i < to; i++) sum = fround(sum + fround(x[i] * x[i]))
  return sum
}

function quantizeQ45(type: 'Q4_K' | 'Q5_K', x: Float32Array, block: Uint8Array, importance?: Float32Array): void {
  const { limit, plain, weighted } = Q45_TYPES[type]
  const codes = new Uint8Array(SIZE)
  const weights = new Float32Array(32)
  const scales = new Float32Array(8)
  const minima = new Float32Array(8) // as positive numbers: -min
  const groupWeights = new Float32Array(8)
  const sigma2 = fround(fround(2 * squares(x, 0, SIZE)) / SIZE)
  for (let g = 0; g < 8; g++) {
    const at = 32 * g
    const mean = fround(sqrt(fround(squares(x, at, at + 32) / 32)))
    let sum = 0
    for (let i = 0; i < 32; i++) {
      const v = x[at + i]
      weights[i] = importance ? importance[at + i] * fround(sqrt(fround(sigma2 + fround(v * v)))) : mean + abs(v)
      sum = fround(sum + weights[i])
    }
    groupWeights[g] = sum
    const found = searchAsymmetric({ x, at, size: 32, weights, codes }, importance ? weighted : plain)
    scales[g] = found.scale
    minima[g] = -found.min
  }
  const scale = importance ? searchCodes(scales, groupWeights) : roundCodes(scales)
  const min = importance ? searchCodes(minima, groupWeights) : roundCodes(minima)
  for (let g = 0; g < 8; g++) {
    const step = fround(fromF16Bits(scale.half) * scale.codes[g])
    if (step === 0) continue // the search's codes stay; a NaN is not zero and gives codes 0
    const offset = fround(fromF16Bits(min.half) * min.codes[g])
    for (let i = 32 * g; i < 32 * g + 32; i++)
      codes[i] = clamp(nearestInt(fround(fround(x[i] + offset) / step)), 0, limit)
  }
  packQ45(type, { scale: scale.half, min: min.half, scales: scale.codes, minima: min.codes, codes }, block)
}

interface GroupCodes {
  readonly codes: Uint8Array
  readonly half: number
}

/** The 6-bit codes of the eight scales (or minima), linear to the largest. */
function roundCodes(values: Float32Array): GroupCodes {
  let max = 0
  for (const value of values) if (value > max) max = value
  const inverse = max > 0 ? fround(63 / max) : 0
  const codes = Uint8Array.from(values, (value) => Math.min(63, nearestInt(fround(inverse * value)) & 255))
  return { codes, half: f16Bits(fround(max / 63)) }
}

function searchCodes(values: Float32Array, weights: Float32Array): GroupCodes {
  const codes = new Uint8Array(8)
  const half = f16Bits(searchPositive({ x: values, at: 0, size: 8, weights, codes }, 63))
  return { codes, half }
}

export const quantizeQ6K: BlockQuantizer = (x, block, importance) => {
  const codes = new Uint8Array(SIZE)
  const weights = new Float32Array(16)
  const scales = new Float32Array(16)
  let max = 0
  for (let g = 0; g < 16; g++) {
    const at = 16 * g
    for (let i = 0; i < 16; i++) weights[i] = importance ? importance[at + i] : x[at + i] * x[at + i]
    const group: Group = { x, at, size: 16, weights, codes }
    scales[g] = searchSymmetric(group, 32)
    if (abs(scales[g]) > abs(max)) max = scales[g]
  }
  if (abs(max) < GROUP_EPSILON) return // a block of zero bytes
  const inverse = fround(-128 / max)
  const half = f16Bits(fround(1 / inverse))
  const groupCodes = Int8Array.from(scales, (scale) => Math.min(127, nearestInt(fround(inverse * scale))))
  for (let g = 0; g < 16; g++) {
    const step = fround(fromF16Bits(half) * groupCodes[g])
    if (step === 0) continue
    for (let i = 16 * g; i < 16 * g + 16; i++) codes[i] = clamp(nearestInt(fround(x[i] / step)), -32, 31) + 32
  }
  packQ6({ scale: half, scales: groupCodes, codes }, block)
}
