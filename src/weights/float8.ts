// 8-bit floats: their values and the nearest code of a number. e4m3fn and e5m2 as in the OCP standard, e4m3fnuz as GraphCore and AMD have it
// (no infinity, no -0: that code is NaN).
import type { DType } from '../core/dtypes.ts'

const { fround } = Math

export type Float8Name = 'e4m3fn' | 'e5m2' | 'e4m3fnuz'

export interface Float8 {
  /** Bits of the mantissa; the exponent has 7 minus these. */
  readonly mantissa: 2 | 3
  readonly bias: number
  /** The largest finite value. */
  readonly max: number
  /** Its name in files. */
  readonly dtype: DType
  /** The code that NaN becomes. */
  readonly nan: number
}

export const FLOAT8: Readonly<Record<Float8Name, Float8>> = {
  e4m3fn: { mantissa: 3, bias: 7, max: 448, dtype: 'F8_E4M3', nan: 0x7f },
  e5m2: { mantissa: 2, bias: 15, max: 57344, dtype: 'F8_E5M2', nan: 0x7f },
  e4m3fnuz: { mantissa: 3, bias: 8, max: 240, dtype: 'F8_E4M3FNUZ', nan: 0x80 },
}

export const isFloat8 = (name: string): name is Float8Name => name in FLOAT8

/** The value of every code [256]; infinities and NaN included. */
export function float8Values(name: Float8Name): Float32Array {
  const { mantissa, bias } = FLOAT8[name]
  return Float32Array.from({ length: 256 }, (_, code) => {
    if (isSpecial(name, code))
      return name === 'e5m2' && (code & 3) === 0 ? (code > 127 ? -Infinity : Infinity) : Number.NaN
    const exponent = (code & 127) >> mantissa
    const fraction = (code & (2 ** mantissa - 1)) / 2 ** mantissa
    const magnitude = exponent === 0 ? fraction * 2 ** (1 - bias) : (1 + fraction) * 2 ** (exponent - bias)
    return code > 127 ? -magnitude : magnitude
  })
}

/** True for a code that stands for NaN or an infinity. */
export function isSpecial(name: Float8Name, code: number): boolean {
  if (name === 'e4m3fnuz') return code === 0x80
  return name === 'e4m3fn' ? (code & 127) === 127 : (code & 127) >= 0x7c
}

const float = new Float32Array(1)
const word = new Uint32Array(float.buffer)

/** The code nearest to `value`, ties to even; beyond the largest value: that value. NaN has its own code. */
export function float8Code(name: Float8Name, value: number): number {
  const { mantissa, bias, max, nan } = FLOAT8[name]
  if (Number.isNaN(value)) return nan
  float[0] = Math.min(Math.abs(value), max)
  const smallestNormal = 2 ** (1 - bias)
  let code: number
  if (float[0] < smallestNormal) {
    // Subnormal: adding 1.5 * 2^23 units rounds to whole units.
    const unit = smallestNormal / 2 ** mantissa
    code = fround(fround(float[0] / unit) + 12582912) - 12582912
  } else {
    const drop = 23 - mantissa
    const bits = word[0] - (127 - bias) * 2 ** 23
    code = Math.floor((bits + 2 ** (drop - 1) - 1 + (Math.floor(bits / 2 ** drop) & 1)) / 2 ** drop)
  }
  const negative = value < 0 || Object.is(value, -0)
  return negative && !(name === 'e4m3fnuz' && code === 0) ? code | 0x80 : code
}
