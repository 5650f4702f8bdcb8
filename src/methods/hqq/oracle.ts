// Quantisation of hqq 0.2.8 on a CPU, bit for bit: min/max, then a fixed-point iteration that moves the zero point. The oracle of hqq.cc.
// Every operation is one float32 rounding, sums and means run in torch's order, no operation is fused.
import { groupOf } from '../../weights/weight.ts'
import { shrink } from '../shrink.ts'
import { torchColumnSums, torchSum } from '../torch-sum.ts'
import type { HqqSettings } from './config.ts'
import type { Layout } from './layout.ts'

const { fround } = Math
export const MAX_ITERATIONS = 20
/** A group with a range up to this gets the scale 1. */
export const MIN_RANGE: number = fround(1e-4)
const MAX_INVERSE_SCALE = 2e4
/** 1.5 * 2^52: adding and subtracting it rounds a float64 of moderate size to the nearest integer, ties to even. */
const ROUND = 6755399441055744
const WIDE = 2 ** 23

export interface HqqResult {
  /** One a byte, in the weight's order. */
  readonly codes: Uint8Array
  /** 1 / scale of each group. */
  readonly inverseScale: Float32Array
  readonly zero: Float32Array
}

/** What the optimiser went through, for tests. */
export interface HqqTrace {
  readonly zeros: Float32Array[]
  readonly errors: number[]
}

/** Largest code: 2^bits - 1, and 2 for 1.58 bits. */
export function maxCodeOf(bits: number): number {
  return Math.round(2 ** bits - 1)
}

/** float32 -> nearest integer; values from 2^23 on are integers. */
const roundHalfEven = (value: number) => (Math.abs(value) < WIDE ? value + ROUND - ROUND : value)
const clamp = (value: number, max: number) => Math.min(Math.max(value, 0), max)
/** Clamping first gives the same code, and needs no care for huge values. */
const codeOf = (scaled: number, zero: number, max: number) => roundHalfEven(clamp(fround(scaled + zero), max))

/** Codes, scales and zeros of finite weights `w` by the plain algorithm. */
export function quantizeGroups(w: Float32Array, layout: Layout, settings: HqqSettings, trace?: HqqTrace): HqqResult {
  const max = maxCodeOf(settings.bits)
  const groupIndex = Uint32Array.from(w, (_, i) => groupOf(layout.group, layout.groups, i))
  const { inverseScale, zero } = minMax(w, groupIndex, layout.groups, max, settings.roundZero)
  if (settings.optimize && settings.channelWise) optimize(w, { layout, groupIndex, inverseScale, zero, max }, trace)
  const codes = new Uint8Array(w.length)
  for (let i = 0; i < w.length; i++) {
    const g = groupIndex[i]
    codes[i] = codeOf(fround(w[i] * inverseScale[g]), zero[g], max)
  }
  return { codes, inverseScale, zero }
}

/** Steps 2 to 4: inverse scale and first zero of each group. */
function minMax(w: Float32Array, groupIndex: Uint32Array, groups: number, max: number, roundZero: boolean) {
  const low = new Float32Array(groups).fill(Infinity)
  const high = new Float32Array(groups).fill(-Infinity)
  for (let i = 0; i < w.length; i++) {
    const g = groupIndex[i]
    if (w[i] < low[g]) low[g] = w[i]
    if (w[i] > high[g]) high[g] = w[i]
  }
  const inverseScale = new Float32Array(groups)
  const zero = new Float32Array(groups)
  for (let g = 0; g < groups; g++) {
    const range = fround(high[g] - low[g])
    const s = range <= MIN_RANGE ? 1 : fround(fround(1 / range) * max) // a reciprocal, then a product
    inverseScale[g] = Math.min(s, MAX_INVERSE_SCALE)
    const z = fround(-(low[g] + 0) * inverseScale[g]) // + 0: -0.0 counts as 0
    zero[g] = roundZero ? roundHalfEven(z) : z
  }
  return { inverseScale, zero }
}

interface Problem {
  readonly layout: Layout
  readonly groupIndex: Uint32Array
  readonly inverseScale: Float32Array
  /** Moved in place. */
  readonly zero: Float32Array
  readonly max: number
}

/** Step 6: moves the zeros until the error no longer falls; the zeros of the last step stay. */
function optimize(w: Float32Array, problem: Problem, trace?: HqqTrace): void {
  const { groupIndex, inverseScale, zero, max, layout } = problem
  const errors = new Float32Array(w.length)
  const terms = new Float32Array(w.length)
  let best = Infinity
  for (let iteration = 0; iteration < MAX_ITERATIONS; iteration++) {
    for (let i = 0; i < w.length; i++) {
      const s = inverseScale[groupIndex[i]]
      const z = zero[groupIndex[i]]
      const q = codeOf(fround(w[i] * s), z, max)
      const d = fround(w[i] - fround(fround(q - z) / s))
      errors[i] = Math.abs(d)
      terms[i] = q - fround(fround(w[i] - shrink(d)) * s)
    }
    zero.set(groupMeans(terms, layout))
    const error = fround(torchSum(errors) / w.length)
    trace?.zeros.push(zero.slice())
    trace?.errors.push(error)
    if (!(error < best)) return
    best = error
  }
}

/** Mean of each row (axis 1) or column (axis 0) of the regrouped matrix. */
function groupMeans(terms: Float32Array, { rows, columns, group }: Layout): Float32Array {
  if (group.kind === 'strided') return torchColumnSums(terms, rows, columns).map((sum) => sum / rows)
  return Float32Array.from(
    { length: rows },
    (_, r) => torchSum(terms.subarray(r * columns, (r + 1) * columns)) / columns,
  )
}
