// Quantises one weight: int8 and float8 with the largest magnitude of each row, 2 and 4 bits with scale and shift of each group.
import { elementCount, type FloatDType, isFloat, type RawTensor, rawTensor } from '../../core/dtypes.ts'
import { WeightError } from '../../core/errors.ts'
import { fromFloat32, roundTo, toFloat32 } from '../../core/half.ts'
import { float8Codes } from '../../weights/float8-codes.ts'
import type { Scheme } from '../../weights/scheme.ts'
import type { QuantizedWeight } from '../../weights/weight.ts'
import { groupRanges, quotientCodes } from '../groups.ts'
import type { QuantizeInput } from '../types.ts'
import type { QuantoSettings } from './config.ts'
import { type Arithmetic, hqqOptimizer, rangeOptimizer, runHqqOptimizer, type ScaleShift } from './oracle.ts'
import { groupSizeOf, type QType } from './qtypes.ts'

const { fround } = Math
type Input = QuantizeInput<QuantoSettings>
type Affine = Extract<QType, { kind: 'affine' }>
type Symmetric = Exclude<QType, Affine>

/** The weight [N, K] with its values as float32, and the dtype in which everything is computed and stored. */
interface Matrix {
  readonly shape: readonly number[]
  readonly w: Float32Array
  readonly dtype: Arithmetic
}

/** Quantises one weight; by `input.kernels` where they are given. Throws WeightError naming the tensor. */
export async function quantize(input: Input): Promise<QuantizedWeight> {
  const { name, tensor, settings, kernels } = input
  if (elementCount(tensor.shape) === 0)
    throw new WeightError(`Cannot quantise "${name}": it is empty`, { tensor: name, shape: tensor.shape })
  const w = kernels ? kernels.toFloat32(tensor) : toFloat32(tensor)
  const matrix = { shape: tensor.shape, w, dtype: tensor.dtype as Arithmetic }
  const { qtype } = settings
  return qtype.kind === 'affine' ? quantizeGroups(input, matrix, qtype) : quantizeRows(input, matrix, qtype)
}

/** Throws WeightError at the first element that is not finite. */
function refuseNonFinite({ name }: Input, { w, shape }: Matrix): never {
  const index = w.findIndex((value) => !Number.isFinite(value))
  const [row, column] = [Math.floor(index / shape[1]), index % shape[1]]
  throw new WeightError(`Cannot quantise "${name}": row ${row}, column ${column} is ${w[index]}`, {
    tensor: name,
    row,
    actual: w[index],
    hint: 'the checkpoint may be damaged: check it with the tool that made it, or exclude this module',
  })
}

async function quantizeRows(input: Input, matrix: Matrix, qtype: Symmetric): Promise<QuantizedWeight> {
  const { w, shape, dtype } = matrix
  const { kernels } = input
  const { low, high, bad } = await groupRanges(w, shape[1], kernels)
  if (bad.includes(1)) refuseNonFinite(input, matrix)
  const scale = low.map((least, n) => roundTo(dtype, fround(Math.max(-least, high[n]) / qtype.max)))
  const codes =
    qtype.kind === 'int8'
      ? await quotientCodes(
          w,
          shape[1],
          { step: scale },
          { arithmetic: dtype, rounding: 'even', low: -128, high: 127, offset: 128, nan: 0 },
          kernels,
        )
      : await float8Codes(w, shape[1], scale, qtype.table, dtype, kernels)
  return rowWeight(shape, qtype, rawTensor('U8', shape, codes), {
    dtype,
    shape: [shape[0]],
    data: fromFloat32(scale, dtype),
  })
}

/** The weight of codes [N, K] (int8: + 128) and scales [N]. */
export function rowWeight(
  shape: readonly number[],
  qtype: Symmetric,
  codes: RawTensor,
  scale: RawTensor,
): QuantizedWeight {
  const group = { kind: 'flat', size: shape[1] } as const
  const scheme: Scheme =
    qtype.kind === 'int8'
      ? { kind: 'affine', bits: 8, group, zero: 128 }
      : { kind: 'lookup', bits: 8, table: qtype.table, group }
  return { scheme, shape, parts: { codes, scale } }
}

async function quantizeGroups(input: Input, matrix: Matrix, qtype: Affine): Promise<QuantizedWeight> {
  const { w, shape, dtype } = matrix
  const { kernels, settings, name } = input
  const size = groupSizeOf(qtype, shape[1])
  const max = 2 ** qtype.bits - 1
  const { low, high, bad } = await groupRanges(w, size, kernels)
  if (bad.includes(1)) refuseNonFinite(input, matrix)
  const range = rangeOptimizer(low, high, max, dtype)
  const overflow = range.scale.findIndex((value) => !Number.isFinite(value))
  if (overflow >= 0)
    throw new WeightError(
      `Cannot quantise "${name}": group ${overflow} reaches from ${low[overflow]} to ${high[overflow]}, a range beyond ${dtype}`,
      { tensor: name, group: overflow, actual: [low[overflow], high[overflow]], hint: '--dtype bfloat16' },
    )
  const optimized = () =>
    kernels ? runHqqOptimizer(kernels, w, size, max, range, dtype) : hqqOptimizer(w, size, max, range, dtype)
  const meta = settings.optimizer === 'hqq' ? await optimized() : range
  const rule = { arithmetic: dtype, rounding: 'even', low: 0, high: max, offset: 0, nan: 0 } as const
  const codes = await quotientCodes(w, size, { step: meta.scale, shift: meta.shift }, rule, kernels)
  const stored =
    settings.tinygemm && dtype === 'BF16' && size === 128 && qtype.bits === 4 ? tinygemmShift(meta) : meta.shift
  const tensor = (values: Float32Array): RawTensor => ({
    dtype,
    shape: [values.length],
    data: fromFloat32(values, dtype),
  })
  return groupWeight(shape, qtype, size, {
    codes: rawTensor('U8', shape, codes),
    scale: tensor(meta.scale),
    shift: tensor(negated(stored)),
  })
}

export const negated = (values: Float32Array): Float32Array => values.map((value) => -value)

/** The shift that is left when torch's int4 kernel keeps 8 scale - shift, and gives it back. */
function tinygemmShift({ scale, shift }: ScaleShift): Float32Array {
  return scale.map((s, g) => roundTo('BF16', fround(8 * s - roundTo('BF16', fround(8 * s - shift[g])))))
}

/** The weight of codes [N, K]: w = scale * q + shift (the file holds -shift), or scale * (q - zeroPoint). */
export function groupWeight(
  shape: readonly number[],
  { bits }: Affine,
  size: number,
  parts: Readonly<Record<string, RawTensor>>,
): QuantizedWeight {
  const zero = parts.zeroPoint ? 'zeroPoint' : 'shift'
  return { scheme: { kind: 'affine', bits, group: { kind: 'flat', size }, zero }, shape, parts }
}

/** Dtypes that the reference quantises. */
export function isQuantisable(dtype: string): dtype is FloatDType {
  return isFloat(dtype) && dtype !== 'F64'
}
