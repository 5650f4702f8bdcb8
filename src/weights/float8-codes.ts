// Codes of a weight in an 8-bit float, scaled by groups: the oracle of fb_float8 in native/kernels/quantize/groups.cc.
import { roundTo } from '../core/half.ts'
import type { QuantizerKernels } from '../core/kernels.ts'
import { FLOAT8, type Float8Name, float8Code } from './float8.ts'

/**
 * Code of x / scale for each element, scale [groups] of `size` neighbours each; the quotient is rounded to `arithmetic` and bounded by the
 * largest value of the type. A group whose scale is 0 has the code 0 throughout: 0 / 0 would be NaN.
 */
export async function float8Codes(
  x: Float32Array,
  size: number,
  scale: Float32Array,
  name: Float8Name,
  arithmetic: 'F32' | 'F16' | 'BF16',
  kernels?: QuantizerKernels,
): Promise<Uint8Array> {
  if (kernels) {
    const { mantissa, bias, max } = FLOAT8[name]
    const type = { F32: 0, F16: 1, BF16: 2 }[arithmetic]
    const params = [scale.length, x.length, size, type, mantissa, bias, max, Number(name === 'e4m3fnuz')]
    const [codes] = await kernels.run('fb_float8', [x, scale], [{ bytes: x.length }], params)
    return new Uint8Array(codes)
  }
  return Uint8Array.from(x, (w, i) => {
    const s = scale[Math.floor(i / size)]
    return s === 0 ? 0 : float8Code(name, roundTo(arithmetic, Math.fround(w / s)))
  })
}
