// AWQ's arithmetic, step by step as AutoAWQ 0.2.9 computes it: every operation on weights rounds once to the dtype of the search. The definition
// that native/kernels/quantize/awq.inc is held to.
import type { FloatDType } from '../../core/dtypes.ts'
import { roundTo } from '../../core/half.ts'

/** Dtype that the search rounds to. */
export type SearchDtype = Exclude<FloatDType, 'F64'>

/** Groups of `group` neighbours along a row of K, and what a code may be. */
export interface CodeSpec {
  readonly rows: number
  readonly columns: number
  readonly group: number
  readonly bits: number
  readonly symmetric: boolean
  readonly dtype: SearchDtype
}

const { fround } = Math
/** Magnitudes that the clip search tries, as parts of the largest. */
const CLIP_STEPS = 10
const CLIP_GRID = 20
/** Partial sums over tokens. */
const SUMS = 16
/** Candidates of the scale search. */
export const GRID = 20

/** Nearest integer, ties to even; from 2^22 on values count as whole. */
function whole(v: number): number {
  return Math.abs(v) < 2 ** 22 ? fround(fround(v + 12582912) - 12582912) : v
}

/** The largest code, as the reference counts it: one sided where symmetric. */
export function maxCode({ bits, symmetric }: Pick<CodeSpec, 'bits' | 'symmetric'>): number {
  return 2 ** (symmetric ? bits - 1 : bits) - 1
}

interface Range {
  readonly scale: number
  readonly zero: number
}

/** Scale and zero point of a group. */
function rangeOf(x: Float32Array, max: number, symmetric: boolean, dtype: SearchDtype): Range {
  const R = (v: number) => roundTo(dtype, v)
  let high = x[0]
  let low = x[0]
  for (const v of x) {
    if (high < v) high = v
    if (v < low) low = v
  }
  const least = R(1e-5)
  if (symmetric) {
    const size = Math.max(Math.abs(high), Math.abs(low))
    return { scale: R(fround(Math.max(size, least) / max)), zero: 0 }
  }
  const span = R(fround(high - low))
  const scale = R(fround(Math.max(span, least) / max))
  const zero = -whole(R(fround(low / scale)))
  return { scale, zero: zero < 0 ? 0 : Math.min(zero, max) }
}

function codeOf(v: number, { scale, zero }: Range, spec: CodeSpec): number {
  const max = maxCode(spec)
  const least = spec.symmetric ? -max - 1 : 0
  const q = roundTo(spec.dtype, fround(whole(roundTo(spec.dtype, fround(v / scale))) + zero))
  return q < least ? least : Math.min(q, max)
}

function restore(q: number, { scale, zero }: Range, dtype: SearchDtype): number {
  return roundTo(dtype, fround(roundTo(dtype, fround(q - zero)) * scale))
}

/** R(pq(R(w * scale)) / scale) for w [N, K] and scale [K]; without scale pq(w): what the weight is restored to. */
export function requantize(w: Float32Array, scale: Float32Array | undefined, spec: CodeSpec): Float32Array {
  const { columns, group, dtype } = spec
  const R = (v: number) => roundTo(dtype, v)
  const out = scale ? w.map((v, i) => R(fround(v * scale[i % columns]))) : w.slice()
  for (let at = 0; at < out.length; at += group) {
    const x = out.subarray(at, at + group)
    const range = rangeOf(x, maxCode(spec), spec.symmetric, dtype)
    for (let i = 0; i < group; i++) {
      const d = restore(codeOf(x[i], range, spec), range, dtype)
      x[i] = scale ? R(fround(d / scale[(at + i) % columns])) : d
    }
  }
  return out
}

/** R(x * scale) or R(x / scale) for x [N, K], with a factor for each column or row. */
export function scaled(
  x: Float32Array,
  scale: Float32Array,
  kind: 'multiply columns' | 'divide columns' | 'divide rows',
  dtype: SearchDtype,
): Float32Array {
  const R = (v: number) => roundTo(dtype, fround(v))
  const columns = x.length / scale.length
  if (kind === 'divide rows') return x.map((v, i) => R(v / scale[Math.floor(i / columns)]))
  return x.map((v, i) => R(kind === 'multiply columns' ? v * scale[i % scale.length] : v / scale[i % scale.length]))
}

/** Sum over the rows of w [N, K] of |w| as a part of its group's largest, [K]. */
export function weightSums(w: Float32Array, { columns, group, dtype }: CodeSpec): Float64Array {
  const sums = new Float64Array(columns)
  for (let at = 0; at < w.length; at += group) {
    const x = w.subarray(at, at + group)
    const by = roundTo(dtype, fround(x.reduce((max, v) => Math.max(max, Math.abs(v)), 0) + fround(1e-6)))
    for (let i = 0; i < group; i++) sums[(at + i) % columns] += roundTo(dtype, fround(Math.abs(x[i]) / by))
  }
  return sums
}

/** RMS norm of x [R, K] that rounds the normalised values, and again their products with the weight. */
export function roundedNorm(x: Float32Array, weight: Float32Array, eps: number, dtype: SearchDtype): Float32Array {
  const columns = weight.length
  const out = new Float32Array(x.length)
  for (let at = 0; at < x.length; at += columns) {
    let sum = 0
    for (let i = 0; i < columns; i++) sum += x[at + i] * x[at + i]
    const by = fround(1 / fround(Math.sqrt(fround(fround(sum / columns) + fround(eps)))))
    for (let i = 0; i < columns; i++)
      out[at + i] = roundTo(dtype, fround(weight[i] * roundTo(dtype, fround(x[at + i] * by))))
  }
  return out
}

/** The candidate `step` of the grid: factors [K] of the columns. `weightMean` undefined: without duo scaling. */
export function gridScales(
  step: number,
  inputMean: Float32Array,
  weightMean: Float32Array | undefined,
  dtype: SearchDtype,
): Float32Array {
  const R = (v: number) => roundTo(dtype, v)
  const ratio = R(fround(step / GRID))
  const rest = R(fround(1 - step / GRID))
  const least = R(fround(1e-4))
  const power = (x: number, y: number) => R(fround(x ** y))
  const scales = inputMean.map((x, i) => {
    const top = power(x, ratio)
    const s = weightMean ? R(fround(top / R(fround(power(weightMean[i], rest) + fround(1e-4))))) : top
    return Math.max(s, least)
  })
  let high = scales[0]
  let low = scales[0]
  for (const s of scales) {
    high = Math.max(high, s)
    low = Math.min(low, s)
  }
  const middle = R(fround(Math.sqrt(R(fround(high * low)))))
  return scales.map((s) => {
    const v = R(fround(s / middle))
    return Number.isFinite(v) ? v : 1
  })
}

/** For w [N, K] and tokens x [T, K]: the magnitude of each group, [N, K / group], that loses least of the outputs. */
export function clipSearch(w: Float32Array, x: Float32Array, spec: CodeSpec): Float32Array {
  const { rows, columns, group, dtype } = spec
  const groups = columns / group
  const best = new Float32Array(rows * groups)
  for (let g = 0; g < best.length; g++) {
    const weights = w.subarray(g * group, (g + 1) * group)
    best[g] = clipGroup(weights, x, (g % groups) * group, spec)
  }
  return best

  function clipGroup(weights: Float32Array, tokens: Float32Array, at: number, of: CodeSpec): number {
    const R = (v: number) => roundTo(dtype, v)
    const largest = weights.reduce((max, v) => Math.max(max, Math.abs(v)), 0)
    const first = outputs(weights, tokens, at, columns, dtype)
    let least = R(fround(1e9))
    let found = largest
    for (let k = 0; k < CLIP_STEPS; k++) {
      const bound = R(fround(largest * fround(1 - k / CLIP_GRID)))
      const clipped = weights.map((v) => (v < -bound ? -bound : Math.min(v, bound)))
      const restored = requantize(clipped, undefined, of)
      const error = R(fround(meanSquare(outputs(restored, tokens, at, columns, dtype), first, dtype)))
      if (!(error < least)) continue
      least = error
      found = bound
    }
    return found
  }
}

/** R(sum over the group of R(x w)) for each token. */
function outputs(w: Float32Array, x: Float32Array, at: number, columns: number, dtype: SearchDtype): Float32Array {
  const y = new Float32Array(x.length / columns)
  for (let t = 0; t < y.length; t++) {
    let sum = 0
    for (let i = 0; i < w.length; i++) sum = fround(sum + roundTo(dtype, fround(x[t * columns + at + i] * w[i])))
    y[t] = roundTo(dtype, sum)
  }
  return y
}

function meanSquare(a: Float32Array, b: Float32Array, dtype: SearchDtype): number {
  const sums = new Float64Array(SUMS)
  for (let t = 0; t < a.length; t++) {
    const gap = roundTo(dtype, fround(a[t] - b[t]))
    sums[t % SUMS] += roundTo(dtype, fround(gap * gap))
  }
  return sums.reduce((sum, v) => sum + v, 0) / a.length
}

export interface Coded {
  /** [N, K], from 0. */
  readonly codes: Uint8Array
  /** [N, groups], halves. */
  readonly scale: Float32Array
  readonly zero: Uint8Array
  /** First group without a finite scale. */
  readonly bad?: number
}

/** The codes for good: w [N, K] of any dtype, clamped to `clip` [N, groups] where it is given, then float16 in every step. */
export function finalCodes(w: Float32Array, clip: Float32Array | undefined, spec: CodeSpec): Coded {
  const half = { ...spec, dtype: 'F16' } as const
  const max = maxCode(spec)
  const least = spec.symmetric ? -max - 1 : 0
  const offset = spec.symmetric ? max + 1 : 0
  const { group } = spec
  const count = w.length / group
  const made = { codes: new Uint8Array(w.length), scale: new Float32Array(count), zero: new Uint8Array(count) }
  let bad: number | undefined
  for (let g = 0; g < count; g++) {
    const bound = clip ? clip[g] : Infinity
    const x = w
      .subarray(g * group, (g + 1) * group)
      .map((v) => roundTo('F16', v < -bound ? -bound : Math.min(v, bound)))
    const range = rangeOf(x, max, spec.symmetric, 'F16')
    made.scale[g] = range.scale
    made.zero[g] = spec.symmetric ? offset : range.zero
    if (!Number.isFinite(range.scale) || !x.every(Number.isFinite)) {
      bad ??= g
      continue
    }
    for (let i = 0; i < group; i++) {
      const q = codeOf(x[i], range, half)
      const again = codeAgain(restore(q, range, 'F16'), range)
      made.codes[g * group + i] = (again >= least && again <= max ? again : q) + offset
    }
  }
  return bad === undefined ? made : { ...made, bad }
}

/** The code of a restored value, as the reference's packers compute it again. */
function codeAgain(d: number, { scale, zero }: Range): number {
  const product = roundTo('F16', fround(zero * scale))
  return whole(roundTo('F16', fround(roundTo('F16', fround(d + product)) / scale)))
}
