// Superblocks of 256: Q2_K (16 groups of 16, 4-bit scales and minima), Q3_K (16 groups, 6-bit scales), Q4_K and Q5_K (8 groups of 32,
// 6-bit scales and minima) and Q6_K (16 groups, int8 scales), as ggml's quantize_row_*_ref and, with importance weights, quantize_row_*_impl. The last rounding of codes uses the half-rounded scales.
import { f16Bits, fromF16Bits } from '../../core/half.ts'
import { packQ2, packQ3, packQ6, packQ45 } from '../../weights/superblock/k.ts'
import type { BlockQuantizer } from './block-quantizer.ts'
import { clamp, GROUP_EPSILON, nearestInt } from './rounding.ts'
import { type Group, refineSymmetric, type Sweep, searchAsymmetric, searchPositive, searchSymmetric } from './search.ts'

const { fround, abs, sqrt } = Math
const SIZE = 256

/** Types with minima. */
interface Asymmetric {
  readonly groups: number
  /** Largest code of a value, and of a group's scale or minimum. */
  readonly limit: number
  readonly groupLimit: number
  readonly plain: Sweep
  readonly weighted: Sweep
}

function asymmetric(groups: number, groupLimit: number, plain: Omit<Sweep, 'delta'>): Asymmetric {
  const { limit } = plain
  return {
    groups,
    limit,
    groupLimit,
    plain: { ...plain, delta: fround(0.1) },
    weighted: { limit, low: fround(-0.9), delta: fround(0.05), steps: 36 },
  }
}
const Q2 = asymmetric(16, 15, { limit: 3, low: -0.5, steps: 15, absolute: true })
const Q4 = asymmetric(8, 63, { limit: 15, low: -1, steps: 20 })
const Q5 = asymmetric(8, 63, { limit: 31, low: -0.5, steps: 15 })

function squares(x: Float32Array, from: number, to: number): number {
  let sum = 0
  for (let i = from; i < to; i++) sum = fround(sum + fround(x[i] * x[i]))
  return sum
}

/** Importance times the root of sigma2 + x^2. */
function importanceWeights(
  x: Float32Array,
  at: number,
  importance: Float32Array,
  sigma2: number,
  out: Float32Array,
): void {
  for (let i = 0; i < out.length; i++)
    out[i] = importance[at + i] * fround(sqrt(fround(sigma2 + fround(x[at + i] * x[at + i]))))
}

function sum(values: Float32Array): number {
  return values.reduce((total, v) => fround(total + v), 0)
}

interface Search {
  readonly codes: Uint8Array
  readonly scale: GroupCodes
  readonly min: GroupCodes
}

/** Codes, scales and minima of one superblock. `sigma2`: of its sum of squares, with importance; `plainWeights` fills them without. */
function searchGroups(
  type: Asymmetric,
  x: Float32Array,
  importance: Float32Array | undefined,
  sigma2: number,
  plainWeights: (at: number, out: Float32Array) => void,
): Search {
  const size = SIZE / type.groups
  const codes = new Uint8Array(SIZE)
  const weights = new Float32Array(size)
  const scales = new Float32Array(type.groups)
  const minima = new Float32Array(type.groups) // as positive numbers: -min
  const groupWeights = new Float32Array(type.groups)
  for (let g = 0; g < type.groups; g++) {
    const at = size * g
    if (importance) importanceWeights(x, at, importance, sigma2, weights)
    else plainWeights(at, weights)
    groupWeights[g] = sum(weights)
    const found = searchAsymmetric({ x, at, size, weights, codes }, importance ? type.weighted : type.plain)
    scales[g] = found.scale
    minima[g] = -found.min
  }
  const code = (values: Float32Array) =>
    importance ? searchCodes(values, groupWeights, type.groupLimit) : roundCodes(values, type.groupLimit)
  return { codes, scale: code(scales), min: code(minima) }
}

/** Rounds all values anew with the scales and minima as they are stored. */
function roundAsymmetric(type: Asymmetric, x: Float32Array, { codes, scale, min }: Search): void {
  const size = SIZE / type.groups
  const mask = type.groupLimit
  for (let g = 0; g < type.groups; g++) {
    const step = fround(fromF16Bits(scale.half) * (scale.codes[g] & mask))
    if (step === 0) continue // the search's codes stay; a NaN is not zero and gives codes 0
    const offset = fround(fromF16Bits(min.half) * (min.codes[g] & mask))
    for (let i = size * g; i < size * (g + 1); i++)
      codes[i] = clamp(nearestInt(fround(fround(x[i] + offset) / step)), 0, type.limit)
  }
}

export const quantizeQ2K: BlockQuantizer = (x, block, importance) => {
  const found = searchGroups(Q2, x, importance, fround(squares(x, 0, SIZE) / SIZE), (at, out) => {
    for (let i = 0; i < 16; i++) out[i] = abs(x[at + i])
  })
  const { codes, scale, min } = found
  const groups = scale.codes.map((code, g) => code | (min.codes[g] << 4))
  for (let g = 0; g < 16; g++) {
    scale.codes[g] = groups[g]
    min.codes[g] = groups[g] >> 4
  }
  roundAsymmetric(Q2, x, found)
  packQ2({ scale: scale.half, min: min.half, groups, codes }, block)
}

export const quantizeQ4K: BlockQuantizer = (x, block, importance) => quantizeQ45('Q4_K', Q4, x, block, importance)
export const quantizeQ5K: BlockQuantizer = (x, block, importance) => quantizeQ45('Q5_K', Q5, x, block, importance)

function quantizeQ45(
  type: 'Q4_K' | 'Q5_K',
  layout: Asymmetric,
  x: Float32Array,
  block: Uint8Array,
  importance?: Float32Array,
): void {
  const found = searchGroups(layout, x, importance, fround(fround(2 * squares(x, 0, SIZE)) / SIZE), (at, out) => {
    const mean = fround(sqrt(fround(squares(x, at, at + 32) / 32)))
    for (let i = 0; i < 32; i++) out[i] = mean + abs(x[at + i])
  })
  roundAsymmetric(layout, x, found)
  const { codes, scale, min } = found
  packQ45(type, { scale: scale.half, min: min.half, scales: scale.codes, minima: min.codes, codes }, block)
}

interface GroupCodes {
  readonly codes: Uint8Array
  readonly half: number
}

/** The codes 0..limit of the groups' scales (or minima), linear to the largest. Those of four bits are bytes: below 0 they wrap. */
function roundCodes(values: Float32Array, limit: number): GroupCodes {
  let max = 0
  for (const value of values) if (value > max) max = value
  const inverse = max > 0 ? fround(limit / max) : 0
  const codes = Uint8Array.from(values, (value) => nearestInt(fround(inverse * value)))
  return {
    codes: limit === 15 ? codes : codes.map((code) => Math.min(limit, code)),
    half: f16Bits(fround(max / limit)),
  }
}

function searchCodes(values: Float32Array, weights: Float32Array, limit: number): GroupCodes {
  const codes = new Uint8Array(values.length)
  const half = f16Bits(searchPositive({ x: values, at: 0, size: values.length, weights, codes }, limit))
  return { codes, half }
}

export const quantizeQ3K: BlockQuantizer = (x, block, importance) => {
  const codes = new Uint8Array(SIZE)
  const weights = new Float32Array(16)
  const scales = new Float32Array(16)
  const groupWeights = new Float32Array(16)
  const sigma2 = fround(fround(2 * squares(x, 0, SIZE)) / SIZE)
  for (let g = 0; g < 16; g++) {
    const at = 16 * g
    const group: Group = { x, at, size: 16, weights, codes }
    if (importance) {
      importanceWeights(x, at, importance, sigma2, weights)
      groupWeights[g] = sum(weights)
      scales[g] = searchSymmetric(group, 4)
    } else {
      for (let i = 0; i < 16; i++) weights[i] = x[at + i] * x[at + i]
      scales[g] = refineSymmetric(group, 4)
    }
  }
  const groups = importance ? searchSigned(scales, groupWeights) : roundSigned(scales)
  for (let g = 0; g < 16; g++) {
    const step = fround(fromF16Bits(groups.half) * (groups.codes[g] - 32))
    if (step === 0) continue
    for (let i = 16 * g; i < 16 * g + 16; i++) codes[i] = clamp(nearestInt(fround(x[i] / step)), -4, 3) + 4
  }
  packQ3({ scale: groups.half, scales: groups.codes, codes }, block)
}

/** The codes 0..63 for -32..31 of the groups' scales, linear to the one of largest magnitude. */
function roundSigned(scales: Float32Array): GroupCodes {
  let max = 0
  for (const scale of scales) if (abs(scale) > abs(max)) max = scale
  if (max === 0) return { codes: new Uint8Array(scales.length), half: 0 }
  const inverse = fround(-32 / max)
  const int8 = (value: number) => (value << 24) >> 24
  const codes = Uint8Array.from(scales, (s) => clamp(int8(nearestInt(fround(inverse * s))), -32, 31) + 32)
  return { codes, half: f16Bits(fround(1 / inverse)) }
}

function searchSigned(scales: Float32Array, weights: Float32Array): GroupCodes {
  const codes = new Uint8Array(scales.length)
  return { codes, half: f16Bits(searchSymmetric({ x: scales, at: 0, size: scales.length, weights, codes }, 32)) }
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
