// EETQ's quantiser: int8 with one scale for each output feature (a row of [N, K]). The codes are made with the float32 step, the file
// keeps the step rounded to float16.
import { elementCount, rawTensor } from '../../core/dtypes.ts'
import { WeightError } from '../../core/errors.ts'
import { fromFloat32, toFloat32 } from '../../core/half.ts'
import type { AffineScheme } from '../../weights/scheme.ts'
import type { QuantizedWeight } from '../../weights/weight.ts'
import { groupRanges, type QuotientRule, quotientCodes } from '../groups.ts'
import type { QuantizeInput, QuantizerKernels } from '../types.ts'
import type { EetqSettings } from './config.ts'

const { fround } = Math

/** Halves go away from zero; 0 / 0, and so every element of a zero row, gives 127. */
const RULE: QuotientRule = { arithmetic: 'F32', rounding: 'away', low: -128, high: 127, offset: 128, nan: 127 }

export interface EetqCodes {
  /** Code + 128 of each element [N, K]. */
  readonly codes: Uint8Array
  /** Largest magnitude / 128 of each row [N]. */
  readonly step: Float32Array
  /** 1 for a row with NaN or infinity [N]. */
  readonly bad: Uint8Array
}

/** Codes and steps of rows of `columns` elements. */
export async function quantizeRows(w: Float32Array, columns: number, kernels?: QuantizerKernels): Promise<EetqCodes> {
  const { low, high, bad } = await groupRanges(w, columns, kernels)
  const step = low.map((least, n) => fround(Math.max(0, high[n], -least) * 0.0078125))
  return { codes: await quotientCodes(w, columns, { step }, RULE, kernels), step, bad }
}

/** Quantises one weight [N, K]. Throws WeightError naming the tensor and the element that is not finite. */
export async function quantize(input: QuantizeInput<EetqSettings>): Promise<QuantizedWeight> {
  const { name, tensor, settings, kernels } = input
  const [, columns] = tensor.shape
  if (elementCount(tensor.shape) === 0)
    throw new WeightError(`Cannot quantise "${name}": it is empty`, { tensor: name, shape: tensor.shape })
  const w = kernels ? kernels.toFloat32(tensor) : toFloat32(tensor)
  const { codes, step, bad } = await quantizeRows(w, columns, kernels)
  if (bad.includes(1) && !settings.allowNonFinite) refuseNonFinite(input, w)
  const scale = fromFloat32(step, 'F16')
  const stored = toFloat32(rawTensor('F16', [step.length], scale))
  const lost = step.reduce((count, value, n) => count + Number(value > 0 && stored[n] === 0), 0)
  if (lost > 0)
    input.warn?.(`"${name}": ${lost} of ${step.length} rows are below 2^-18: their float16 scale is 0, and so are they`)
  return eetqWeight(tensor.shape, codes, scale)
}

function refuseNonFinite({ name, tensor, firstRow = 0 }: QuantizeInput<EetqSettings>, w: Float32Array): never {
  const index = w.findIndex((value) => !Number.isFinite(value))
  const row = firstRow + Math.floor(index / tensor.shape[1])
  throw new WeightError(`Cannot quantise "${name}": row ${row}, column ${index % tensor.shape[1]} is ${w[index]}`, {
    tensor: name,
    row,
    actual: w[index],
    hint: 'the checkpoint may be damaged; --allow-non-finite true gives it the codes of the reference',
  })
}

/** The weight of codes + 128 [N, K] and float16 scales [N]. */
export function eetqWeight(
  shape: readonly number[],
  codes: Uint8Array,
  scale: Uint8Array,
): QuantizedWeight<AffineScheme> {
  return {
    scheme: { kind: 'affine', bits: 8, group: { kind: 'flat', size: shape[1] }, zero: 128 },
    shape,
    parts: { codes: rawTensor('U8', shape, codes), scale: rawTensor('F16', [shape[0]], scale) },
  }
}
