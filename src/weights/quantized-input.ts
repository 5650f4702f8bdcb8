// Inputs of linears that are quantised with one scale for all values, found by calibration (Quanto's activations). x becomes
// scale * nearest(x / scale), nearest of int8 or of an 8-bit float; the oracle of native/kernels/quantized-input.h.
import type { QuantizerKernels } from '../core/kernels.ts'
import { FLOAT8, float8Code, float8Values } from './float8.ts'
import type { QuantizedInput, Scheme } from './scheme.ts'

const { fround } = Math

export type InputType = QuantizedInput['type']

/** In the order of native/kernels/quantized-input.h. */
export const INPUT_TYPES: readonly InputType[] = ['int8', 'e4m3fn', 'e5m2', 'e4m3fnuz']

/** The largest value of the type: the largest magnitude of x is scaled to it. */
export const inputMax = (type: InputType): number => (type === 'int8' ? 127 : FLOAT8[type].max)

/** How a linear with a weight of this scheme sees its input; undefined: as it is. */
export function inputOf(scheme: Scheme): QuantizedInput | undefined {
  return scheme.kind === 'affine' || scheme.kind === 'lookup' ? scheme.input : undefined
}

/** x as a linear sees it whose input has this type and scale. */
export function quantizedInput(x: Float32Array, type: InputType, scale: number): Float32Array {
  if (type === 'int8') return x.map((v) => wholeWithin(fround(v / scale)) * scale)
  const values = float8Values(type)
  return x.map((v) => values[float8Code(type, fround(v / scale))] * scale)
}

/** Nearest whole number, halves to even, from -128 to 127. */
function wholeWithin(value: number): number {
  return fround(fround(Math.min(Math.max(value, -128), 127) + 12582912) - 12582912)
}

/** The same for runs of `size` values with a scale each; a run with the scale 0 holds zeros, and stays as it is. */
export async function quantizedInputs(
  x: Float32Array,
  size: number,
  scale: Float32Array,
  type: InputType,
  kernels?: QuantizerKernels,
): Promise<Float32Array> {
  if (kernels) {
    const params = [scale.length, x.length, size, INPUT_TYPES.indexOf(type)]
    const [y] = await kernels.run('fb_quantized_inputs', [x, scale], [{ bytes: 4 * x.length }], params)
    return new Float32Array(y)
  }
  const y = x.slice()
  scale.forEach((s, run) => {
    const [from, to] = [run * size, (run + 1) * size]
    if (s !== 0) y.set(quantizedInput(x.subarray(from, to), type, s), from)
  })
  return y
}
