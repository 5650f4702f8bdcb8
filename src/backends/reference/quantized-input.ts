// Linears whose input is quantised with one scale for all values, found by calibration (Quanto's activations).
import { toFloat32 } from '../../core/half.ts'
import { float8Code, float8Values } from '../../weights/float8.ts'
import { part, type QuantizedWeight } from '../../weights/weight.ts'

const { fround } = Math

/** x as the linear with this weight sees it: itself where its input is not quantised. */
export function quantizedInput(x: Float32Array, weight: QuantizedWeight): Float32Array {
  const { scheme } = weight
  const input = scheme.kind === 'affine' || scheme.kind === 'lookup' ? scheme.input : undefined
  if (!input) return x
  const [scale] = toFloat32(part(weight, 'inputScale'))
  const { type } = input
  if (type === 'int8') return x.map((v) => wholeWithin(fround(v / scale)) * scale)
  const values = float8Values(type)
  return x.map((v) => values[float8Code(type, fround(v / scale))] * scale)
}

/** Nearest whole number, halves to even, from -128 to 127. */
function wholeWithin(value: number): number {
  return fround(fround(Math.min(Math.max(value, -128), 127) + 12582912) - 12582912)
}
