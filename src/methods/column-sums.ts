// Statistics of the inputs of linears, by the compiled kernel where there is one.
import type { QuantizerKernels } from '../core/kernels.ts'

/** Numbers of native/kernels/quantize/awq.h. */
const KINDS = { absolute: 0, square: 1 } as const
const COLUMN_BLOCK = 64

/** Sum over the rows of x [R, K] of |x|, or of x^2, [K], in float64. */
export async function columnSums(
  x: Float32Array,
  columns: number,
  kind: keyof typeof KINDS,
  kernels: QuantizerKernels | undefined,
): Promise<Float64Array> {
  if (kernels) {
    const params = [Math.ceil(columns / COLUMN_BLOCK), x.length / columns, columns, KINDS[kind]]
    const [sums] = await kernels.run('fb_column_sums', [x], [{ bytes: 8 * columns }], params)
    return new Float64Array(sums)
  }
  const sums = new Float64Array(columns)
  for (let i = 0; i < x.length; i++) sums[i % columns] += kind === 'square' ? x[i] * x[i] : Math.abs(x[i])
  return sums
}
