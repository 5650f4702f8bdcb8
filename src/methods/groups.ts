// What quantisers by groups of neighbours share: the range of each group, and codes as rounded quotients. Each function is the oracle of
// a kernel in native/kernels/quantize/groups.cc and calls it where kernels are given. A group is a run of the flat weight.
import { roundTo } from '../core/half.ts'
import type { QuantizerKernels } from '../core/kernels.ts'

const { fround } = Math

/** Least and greatest element [groups]; NaN is in no range, a zero has the sign of the first one. */
export interface Ranges {
  readonly low: Float32Array
  readonly high: Float32Array
  /** 1 where an element of the group is not finite. */
  readonly bad: Uint8Array
}

/** Ranges of the groups of `size` elements of `x`; the last may be shorter. */
export async function groupRanges(x: Float32Array, size: number, kernels?: QuantizerKernels): Promise<Ranges> {
  const groups = Math.ceil(x.length / size)
  if (kernels) {
    const outputs = [{ bytes: 4 * groups }, { bytes: 4 * groups }, { bytes: groups }]
    const [low, high, bad] = await kernels.run('fb_ranges', [x], outputs, [groups, x.length, size])
    return { low: new Float32Array(low), high: new Float32Array(high), bad: new Uint8Array(bad) }
  }
  const low = new Float32Array(groups).fill(Infinity)
  const high = new Float32Array(groups).fill(-Infinity)
  const bad = new Uint8Array(groups)
  for (let i = 0; i < x.length; i++) {
    const g = Math.floor(i / size)
    const v = x[i]
    if (v < low[g]) low[g] = v
    if (v > high[g]) high[g] = v
    if (!Number.isFinite(v)) bad[g] = 1
  }
  return { low, high, bad }
}

/** How a quotient becomes a code. */
export interface QuotientRule {
  /** Every operation is rounded to it. */
  readonly arithmetic: 'F32' | 'F16' | 'BF16'
  /** Halves go to the even neighbour, or away from zero. */
  readonly rounding: 'even' | 'away'
  /** Smallest and largest whole number, within [-255, 255]. */
  readonly low: number
  readonly high: number
  /** What is added to the whole number: codes are unsigned. */
  readonly offset: number
  /** The whole number that NaN (0 / 0) becomes. */
  readonly nan: number
}

const ARITHMETIC = { F32: 0, F16: 1, BF16: 2 } as const
const ROUNDING = { even: 0, away: 1 } as const

/** Codes [x.length] = offset + whole(clamp((x + shift) / step)), step and shift [groups]. */
export async function quotientCodes(
  x: Float32Array,
  size: number,
  { step, shift }: { readonly step: Float32Array; readonly shift?: Float32Array },
  rule: QuotientRule,
  kernels?: QuantizerKernels,
): Promise<Uint8Array> {
  const { arithmetic, rounding, low, high, offset, nan } = rule
  if (kernels) {
    const groups = Math.ceil(x.length / size)
    const settings = [ARITHMETIC[arithmetic], ROUNDING[rounding], low, high, offset, nan]
    const params = [groups, x.length, size, Number(shift !== undefined), ...settings]
    const inputs = [x, step, shift ?? new Float32Array(0)]
    const [codes] = await kernels.run('fb_quotients', inputs, [{ bytes: x.length }], params)
    return new Uint8Array(codes)
  }
  const whole = rounding === 'even' ? nearestEven : nearestAway
  return Uint8Array.from(x, (w, i) => {
    const g = Math.floor(i / size)
    const d = roundTo(arithmetic, fround((shift ? roundTo(arithmetic, fround(w + shift[g])) : w) / step[g]))
    return offset + (Number.isNaN(d) ? nan : whole(Math.min(Math.max(d, low), high)))
  })
}

/** Adding and subtracting 1.5 * 2^23 in float32 rounds to the nearest whole number, halves to even. */
export function nearestEven(value: number): number {
  return fround(fround(value + 12582912) - 12582912)
}

function nearestAway(value: number): number {
  const rest = value - Math.trunc(value)
  return Math.trunc(value) + (rest >= 0.5 ? 1 : 0) - (rest <= -0.5 ? 1 : 0)
}
