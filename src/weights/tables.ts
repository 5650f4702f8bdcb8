// Values of lookup schemes, as exact float32 bits (4 bits: bitsandbytes 0.50.2), and what is derived from them.
import { float8Values } from './float8.ts'
import type { LookupTable, Table16 } from './scheme.ts'

const { fround } = Math

function fromBits(hex: string): Float32Array {
  return new Float32Array(Uint32Array.from(hex.split(' '), (word) => Number.parseInt(word, 16)).buffer)
}

const NF4 = fromBits(
  'bf800000 bf3239b1 bf066b30 beca32a0 be91a24d be3d353f bdba7871 00000000 ' +
    '3da2faff 3e24cae3 3e7c04dd 3ead033a 3ee1a4b8 3f1007ab 3f3913b3 3f800000',
)
const FP4 = fromBits(
  '00000000 3baaaaab 3f2aaaab 3f800000 3eaaaaab 3f000000 3e2aaaab 3e800000 ' +
    '00000000 bbaaaaab bf2aaaab bf800000 beaaaaab bf000000 be2aaaab be800000',
)

/** Table of each lookup scheme, index = code. */
export const LOOKUP_TABLES: Readonly<Record<LookupTable, Float32Array>> = {
  nf4: NF4,
  fp4: FP4,
  e4m3fn: float8Values('e4m3fn'),
  e5m2: float8Values('e5m2'),
  e4m3fnuz: float8Values('e4m3fnuz'),
}

/** Codes of each table in ascending order of value; FP4's +0 (code 0) stands before its second zero (code 8). */
export const CODE_ORDER: Readonly<Record<Table16, readonly number[]>> = {
  nf4: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
  fp4: [11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3],
}

/** The 15 midpoints between neighbouring values; a value on a midpoint goes to the lower code. */
export function lookupBounds(table: Table16): Float32Array {
  const values = CODE_ORDER[table].map((code) => LOOKUP_TABLES[table][code])
  return Float32Array.from({ length: 15 }, (_, i) => fround(values[i] + values[i + 1]) / 2)
}

/** One rounding of a fused multiply-add a * b + c; exact in float64 for float32 inputs of these magnitudes. */
const fused = (a: number, b: number, c: number) => fround(a * b + c)

/** 2^exponent means of neighbours among 2^exponent + 1 points from 0.1 to 1, as torch.linspace places them. */
function meansOfTenths(exponent: number): number[] {
  const count = 2 ** exponent + 1
  const first = fround(0.1)
  const step = fround(fround(1 - first) / (count - 1))
  const points = Array.from({ length: count }, (_, i) =>
    i < Math.floor(count / 2) ? fused(step, i, first) : fused(-step, count - 1 - i, 1),
  )
  return points.slice(1).map((p, i) => fround(points[i] + p) / 2)
}

/** The 256 ascending values of bitsandbytes' dynamic 8-bit map: 7 decades, each with twice the points of the one below. */
export function dynamicMap(): Float32Array {
  const values = [0, 1]
  for (let exponent = 0; exponent < 7; exponent++) {
    const decade = fround(10 ** (exponent - 6))
    for (const mean of meansOfTenths(exponent)) values.push(fround(decade * mean), -fround(decade * mean))
  }
  return Float32Array.from(values).sort()
}
