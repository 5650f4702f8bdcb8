// ggml's searches for the scale (and minimum) of one group: ggml/src/ggml-quants.c, make_qx_quants, make_q3_quants, make_qkx2/3_quants,
// make_qp_quants.
// Each binary operation is one float32 rounding; sums run in index order. Codes are written to `codes[at ..]`.
import { clamp, GROUP_EPSILON, nearestInt } from './rounding.ts'

const { fround, abs } = Math
const TENTH = fround(0.1)
/** Largest group that is searched. */
const MAX_GROUP = 32
const candidate = new Uint8Array(MAX_GROUP)

/** A run of `size` values of x from `at` on, with one weight each (`weights[0 .. size)`). */
export interface Group {
  readonly x: Float32Array
  readonly at: number
  readonly size: number
  readonly weights: Float32Array
  readonly codes: Uint8Array
}

/** Symmetric: code - limit in -limit..limit-1 times the returned scale, which has the sign of the largest value's opposite. */
export function searchSymmetric({ x, at, size, weights, codes }: Group, limit: number): number {
  let max = 0
  for (let i = 0; i < size; i++) if (abs(x[at + i]) > abs(max)) max = x[at + i]
  if (abs(max) < GROUP_EPSILON) {
    codes.fill(0, at, at + size)
    return 0
  }
  let scale = 0
  let best = 0
  // -9..9: the plain scale (step 0) comes first and is kept unless another is strictly better
  for (const step of SYMMETRIC_STEPS) {
    const inverse = fround(-fround(limit + fround(TENTH * step)) / max)
    let sumlx = 0
    let suml2 = 0
    for (let i = 0; i < size; i++) {
      const l = clamp(nearestInt(fround(inverse * x[at + i])), -limit, limit - 1)
      candidate[i] = l + limit
      sumlx = fround(sumlx + fround(fround(weights[i] * x[at + i]) * l))
      suml2 = fround(suml2 + fround(fround(weights[i] * l) * l))
    }
    const first = step === 0
    if (!first && !(suml2 > 0 && fround(sumlx * sumlx) > fround(best * suml2))) continue
    scale = first && suml2 === 0 ? 0 : fround(sumlx / suml2)
    best = fround(scale * sumlx)
    codes.set(candidate.subarray(0, size), at)
  }
  return scale
}
const SYMMETRIC_STEPS = [0, -9, -8, -7, -6, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 6, 7, 8, 9]

/** Symmetric, weighed by the square: the nearest codes, then up to five passes that move one code at a time (make_q3_quants). */
export function refineSymmetric({ x, at, size, weights: w, codes }: Group, limit: number): number {
  let max = 0
  for (let i = 0; i < size; i++) if (abs(x[at + i]) > abs(max)) max = x[at + i]
  if (abs(max) < GROUP_EPSILON) {
    codes.fill(0, at, at + size)
    return 0
  }
  const inverse = fround(-limit / max)
  const nearest = (value: number) => clamp(nearestInt(value), -limit, limit - 1)
  let sumlx = 0
  let suml2 = 0
  for (let i = 0; i < size; i++) {
    const l = nearest(fround(inverse * x[at + i]))
    codes[at + i] = l + limit
    sumlx = fround(sumlx + fround(fround(w[i] * x[at + i]) * l))
    suml2 = fround(suml2 + fround(fround(w[i] * l) * l))
  }
  for (let pass = 0, changed = true; pass < 5 && changed; pass++) {
    changed = false
    for (let i = 0; i < size; i++) {
      const wx = fround(w[i] * x[at + i])
      const old = codes[at + i] - limit
      let slx = fround(sumlx - fround(wx * old))
      if (!(slx > 0)) continue
      let sl2 = fround(suml2 - fround(fround(w[i] * old) * old))
      const l = nearest(fround(fround(x[at + i] * sl2) / slx))
      if (l === old) continue
      slx = fround(slx + fround(wx * l))
      sl2 = fround(sl2 + fround(fround(w[i] * l) * l))
      if (!(sl2 > 0 && fround(fround(slx * slx) * suml2) > fround(fround(sumlx * sumlx) * sl2))) continue
      codes[at + i] = l + limit
      sumlx = slx
      suml2 = sl2
      changed = true
    }
  }
  return suml2 > 0 ? fround(sumlx / suml2) : 0
}

/** How the asymmetric search varies the scale: (low + delta * step + limit) / range for step = 0..steps. */
export interface Sweep {
  readonly limit: number
  readonly low: number
  readonly delta: number
  readonly steps: number
  /** Errors count by magnitude, not by square. */
  readonly absolute?: boolean
}

/** Asymmetric: code in 0..limit times `scale` plus `min` (never above 0). */
export function searchAsymmetric(group: Group, sweep: Sweep): { scale: number; min: number } {
  const { x, at, size, weights: w, codes } = group
  const { limit, absolute = false } = sweep
  let min = x[at]
  let max = x[at]
  let sumW = w[0]
  let sumX = fround(w[0] * x[at])
  for (let i = 1; i < size; i++) {
    const v = x[at + i]
    if (v < min) min = v
    if (v > max) max = v
    sumW = fround(sumW + w[i])
    sumX = fround(sumX + fround(w[i] * v))
  }
  if (min > 0) min = 0
  if (max <= min) {
    codes.fill(0, at, at + size)
    return { scale: 0, min }
  }
  let inverse = fround(limit / fround(max - min))
  let scale = fround(1 / inverse)
  for (let i = 0; i < size; i++) codes[at + i] = clamp(nearestInt(fround(inverse * fround(x[at + i] - min))), 0, limit)
  let best = weightedError(group, codes, at, scale, min, absolute)
  for (let step = 0; step <= sweep.steps; step++) {
    // `min` is the best one so far, not the group's
    inverse = fround(fround(fround(sweep.low + fround(sweep.delta * step)) + limit) / fround(max - min))
    let sumL = 0
    let sumL2 = 0
    let sumXL = 0
    for (let i = 0; i < size; i++) {
      const l = clamp(nearestInt(fround(inverse * fround(x[at + i] - min))), 0, limit)
      candidate[i] = l
      const wl = fround(w[i] * l)
      sumL = fround(sumL + wl)
      sumL2 = fround(sumL2 + fround(wl * l))
      sumXL = fround(sumXL + fround(wl * x[at + i]))
    }
    const determinant = fround(fround(sumW * sumL2) - fround(sumL * sumL))
    if (!(determinant > 0)) continue
    let newScale = fround(fround(fround(sumW * sumXL) - fround(sumX * sumL)) / determinant)
    let newMin = fround(fround(fround(sumL2 * sumX) - fround(sumL * sumXL)) / determinant)
    if (newMin > 0) {
      newMin = 0
      newScale = fround(sumXL / sumL2)
    }
    const error = weightedError(group, candidate, 0, newScale, newMin, absolute)
    if (!(error < best)) continue
    codes.set(candidate.subarray(0, size), at)
    best = error
    scale = newScale
    min = newMin
  }
  return { scale, min }
}

function weightedError(
  { x, at, size, weights }: Group,
  codes: Uint8Array,
  from: number,
  scale: number,
  min: number,
  absolute: boolean,
): number {
  let error = 0
  for (let i = 0; i < size; i++) {
    const diff = fround(fround(fround(scale * codes[from + i]) + min) - x[at + i])
    error = fround(error + fround(weights[i] * (absolute ? abs(diff) : fround(diff * diff))))
  }
  return error
}

/** Non-negative values (the scales or minima of a superblock) as codes 0..limit times the returned scale. */
export function searchPositive(group: Group, limit: number): number {
  const { x, size, weights: w, codes } = group
  let max = 0
  for (let i = 0; i < size; i++) if (x[i] > max) max = x[i]
  if (max < GROUP_EPSILON) {
    codes.fill(0, 0, size)
    return 0
  }
  let inverse = fround(limit / max)
  for (let i = 0; i < size; i++) codes[i] = nearestInt(fround(inverse * x[i]))
  let best = positiveError(group, fround(1 / inverse), (i) => codes[i])
  for (const step of POSITIVE_STEPS) {
    const trial = fround(fround(fround(TENTH * step) + limit) / max)
    const error = positiveError(group, fround(1 / trial), (i) => Math.min(limit, nearestInt(fround(trial * x[i]))))
    if (error < best) {
      best = error
      inverse = trial
    }
  }
  let sumlx = 0
  let suml2 = 0
  for (let i = 0; i < size; i++) {
    const l = Math.min(limit, nearestInt(fround(inverse * x[i])))
    codes[i] = l // wraps: -1 is stored, and counts below, as 255
    sumlx = fround(sumlx + fround(fround(w[i] * x[i]) * l))
    suml2 = fround(suml2 + fround(fround(w[i] * l) * l))
  }
  return refinePositive(group, limit, sumlx, suml2)
}
const POSITIVE_STEPS = [-4, -3, -2, -1, 1, 2, 3, 4]

function positiveError({ x, size, weights }: Group, scale: number, code: (i: number) => number): number {
  let error = 0
  for (let i = 0; i < size; i++) {
    const diff = fround(x[i] - fround(scale * code(i)))
    error = fround(error + fround(fround(weights[i] * diff) * diff))
  }
  return error
}

/** Up to five passes that move one code at a time where that fits better. Returns the fitted scale. */
function refinePositive({ x, size, weights: w, codes }: Group, limit: number, sumlx: number, suml2: number): number {
  for (let pass = 0; pass < 5; pass++) {
    let changed = false
    for (let i = 0; i < size; i++) {
      const wx = fround(w[i] * x[i])
      let slx = fround(sumlx - fround(wx * codes[i]))
      let sl2 = fround(suml2 - fround(fround(w[i] * codes[i]) * codes[i]))
      if (!(slx > 0 && sl2 > 0)) continue
      const l = Math.min(limit, nearestInt(fround(fround(x[i] * sl2) / slx)))
      if (l === codes[i]) continue
      slx = fround(slx + fround(wx * l))
      sl2 = fround(sl2 + fround(fround(w[i] * l) * l))
      if (fround(fround(slx * slx) * suml2) > fround(fround(sumlx * sumlx) * sl2)) {
        codes[i] = l
        sumlx = slx
        suml2 = sl2
        changed = true
      }
    }
    if (!changed) break
  }
  return suml2 > 0 ? fround(sumlx / suml2) : 0
}
