// LLM.int8's linear: activations are quantised to int8 per row, outlier columns stay float (bitsandbytes.md section 5).
// The exact 1/127^2 is used: the reference's CPU constant is a misprint that scales outputs by 1 + 1.8e-5.
import { BugError } from '../../core/errors.ts'
import { f16Bits, fromF16Bits, toFloat32 } from '../../core/half.ts'
import type { AffineScheme } from '../../weights/scheme.ts'
import { part, type QuantizedWeight } from '../../weights/weight.ts'

const { fround } = Math
const INVERSE_127_SQUARED = fround(1 / (127 * 127))
const INVERSE_127 = fround(1 / 127)

/** x [rows, K] through int8 codes [N, K] with part `scb` F32 [N] (the row absmax); bias [N]. */
export function int8Linear(
  x: Float32Array,
  rows: number,
  weight: QuantizedWeight,
  bias: Float32Array | undefined,
): Float32Array {
  const scheme = weight.scheme as AffineScheme
  if (!scheme.activations) throw new BugError('int8Linear needs a scheme with activations')
  const [n, k] = weight.shape
  const threshold = scheme.activations.outlierThreshold
  const codes = part(weight, 'codes').data
  const scb = toFloat32(part(weight, 'scb'))
  const half = Float32Array.from(x, (v) => fromF16Bits(f16Bits(v)))
  const outlier = new Uint8Array(k)
  if (threshold > 0) for (let i = 0; i < half.length; i++) if (Math.abs(half[i]) >= threshold) outlier[i % k] = 1
  const columns = [...outlier.keys()].filter((c) => outlier[c])

  const y = new Float32Array(rows * n)
  const q = new Int8Array(k)
  for (let r = 0; r < rows; r++) {
    let max = 0
    for (let i = 0; i < k; i++) {
      const v = Math.abs(half[r * k + i])
      if (!(threshold > 0 && v >= threshold) && v > max) max = v
    }
    const scale = max === 0 ? 0 : fround(fround(1 / max) * 127)
    for (let i = 0; i < k; i++) q[i] = outlier[i] ? 0 : roundHalfEven(fround(half[r * k + i] * scale))
    for (let j = 0; j < n; j++) {
      let sum = 0
      for (let i = 0; i < k; i++) sum += q[i] * (codes[j * k + i] - 128)
      let out = fround(fround(fround(sum) * fround(max * scb[j])) * INVERSE_127_SQUARED)
      if (bias) out = fround(out + bias[j])
      let rest = 0
      for (const c of columns) rest += x[r * k + c] * fround(fround((codes[j * k + c] - 128) * scb[j]) * INVERSE_127)
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
