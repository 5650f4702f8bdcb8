// Additive codebooks: the decoder, with the roundings of the reference (aqlm 1.1.7) in each dtype.
import type { FloatDType, RawTensor } from '../core/dtypes.ts'
import { aligned, fromBf16Bits, roundTo, toFloat32 } from '../core/half.ts'
import type { AdditiveScheme } from './scheme.ts'

const { fround } = Math

/** Codes as the numbers that they are. */
export function additiveCodes(codes: RawTensor): Uint8Array | Uint16Array {
  return codes.dtype === 'U8' ? codes.data : aligned(Uint16Array, codes.data)
}

const word = new DataView(new ArrayBuffer(4))

/** float32 -> bfloat16, halves away from zero: how torch rounds the sum of an embedding bag. */
function toBf16AwayFromZero(value: number): number {
  if (!Number.isFinite(value)) return value
  word.setFloat32(0, value)
  return fromBf16Bits(((word.getUint32(0) + 0x8000) >>> 16) & 0xffff)
}

/** Rounds a sum of `terms` entries; a single one has the codebook's own dtype already. */
function roundSum(dtype: FloatDType, terms: number, sum: number): number {
  return dtype === 'BF16' && terms > 1 ? toBf16AwayFromZero(sum) : roundTo(dtype, sum)
}

/** Values of the flat elements [from, to) of a weight with `columns` columns; `arithmetic` is the dtype that it is restored in. */
export function decodeAdditive(
  scheme: AdditiveScheme,
  columns: number,
  parts: Readonly<Record<string, RawTensor>>,
  from: number,
  to: number,
  arithmetic: FloatDType,
): Float32Array {
  const { group, codebooks: count, bits } = scheme
  const codes = additiveCodes(parts.codes)
  const codebooks = toFloat32(parts.codebooks)
  const scale = toFloat32(parts.scale)
  const groups = columns / group.in
  const size = group.out * group.in
  const out = new Float32Array(to - from)
  for (let i = from; i < to; i++) {
    const row = Math.floor(i / columns)
    const column = i - row * columns
    const r = Math.floor(row / group.out)
    const j = Math.floor(column / group.in)
    const within = (row - r * group.out) * group.in + (column - j * group.in)
    const at = (r * groups + j) * count
    let sum = 0
    for (let c = 0; c < count; c++) sum = fround(sum + codebooks[((c << bits) + codes[at + c]) * size + within])
    out[i - from] = roundTo(arithmetic, roundSum(arithmetic, count, sum) * scale[r])
  }
  return out
}
