// LLM.int8's linear: activations are quantised to int8 per row, outlier columns stay float (bitsandbytes 0.50.2, MatMul8bitLt in
// eval mode). Outlier columns are taken over all rows of one call, as in the reference: with a threshold a row's result depends on
// its companions.
import { BugError } from '../../core/errors.ts'
import { f16Bits, fromF16Bits, toFloat32 } from '../../core/half.ts'
import type { AffineScheme } from '../../weights/scheme.ts'
import { part, type QuantizedWeight } from '../../weights/weight.ts'

const { fround } = Math
const INVERSE_127 = fround(1 / 127)
/** What integer sums are multiplied with, besides the two absmax. */
export const INT8_OUTPUT_SCALE = fround(1 / (127 * 127))
/**
 * The same in the reference's CPU code: a misprint that makes outputs larger by 1.8e-5, enough to move some codes of the next layer by
 * one. Only for comparing with results of that code.
 */
export const BITSANDBYTES_CPU_OUTPUT_SCALE = fround(6.200124e-5)

export interface Int8Activations {
  /** [rows, K]; 0 in outlier columns. */
  readonly codes: Int8Array
  /** [rows]: largest magnitude of each row, outliers left out. */
  readonly absmax: Float32Array
  /** Columns that hold an outlier in any row, rising. */
  readonly outlierColumns: readonly number[]
}

/** Quantises x [rows, K], rounded to float16 first; magnitudes of `threshold` on are outliers (0: none are). */
export function quantizeActivations(x: Float32Array, rows: number, k: number, threshold: number): Int8Activations {
  const half = Float32Array.from(x, (v) => fromF16Bits(f16Bits(v)))
  const isOutlier = (v: number) => threshold > 0 && Math.abs(v) >= threshold
  const columns = new Set<number>()
  half.forEach((v, i) => {
    if (isOutlier(v)) columns.add(i % k)
  })
  const codes = new Int8Array(rows * k)
  const absmax = new Float32Array(rows)
  for (let r = 0; r < rows; r++) {
    const row = half.subarray(r * k, (r + 1) * k)
    // The small entries of outlier columns still count for the absmax; their codes are cleared after it.
    for (const v of row) if (!isOutlier(v)) absmax[r] = Math.max(absmax[r], Math.abs(v))
    const scale = absmax[r] === 0 ? 0 : fround(fround(1 / absmax[r]) * 127)
    for (let i = 0; i < k; i++) codes[r * k + i] = columns.has(i) ? 0 : roundHalfEven(fround(row[i] * scale))
  }
  return { codes, absmax, outlierColumns: [...columns].sort((a, b) => a - b) }
}

/** x [rows, K] through int8 codes [N, K] with part `scb` F32 [N] (the row absmax); bias [N]. The integer sums are exact. */
export function int8Linear(
  x: Float32Array,
  rows: number,
  weight: QuantizedWeight,
  bias: Float32Array | undefined,
  outputScale = INT8_OUTPUT_SCALE,
): Float32Array {
  const scheme = weight.scheme as AffineScheme
  if (!scheme.activations) throw new BugError('int8Linear needs a scheme with activations')
  const [n, k] = weight.shape
  const codes = part(weight, 'codes').data
  const scb = toFloat32(part(weight, 'scb'))
  const a = quantizeActivations(x, rows, k, scheme.activations.outlierThreshold)
  const y = new Float32Array(rows * n)
  for (let r = 0; r < rows; r++) {
    for (let j = 0; j < n; j++) {
      let sum = 0
      for (let i = 0; i < k; i++) sum += a.codes[r * k + i] * (codes[j * k + i] - 128)
      let out = fround(fround(fround(sum) * fround(a.absmax[r] * scb[j])) * outputScale)
      if (bias) out = fround(out + bias[j])
      let rest = 0
      for (const c of a.outlierColumns)
        rest += x[r * k + c] * fround(fround((codes[j * k + c] - 128) * scb[j]) * INVERSE_127)
      y[r * n + j] = out + rest
    }
  }
  return y
}

function roundHalfEven(value: number): number {
  const floor = Math.floor(value)
  const rest = value - floor
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor
}
