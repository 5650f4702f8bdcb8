// Quantises one linear on the second moment of its inputs: refuses what has no code by name, and lays codes, codebooks and scales out.
import { type FloatDType, type RawTensor, rawTensor } from '../../core/dtypes.ts'
import { UnsupportedError, WeightError } from '../../core/errors.ts'
import { fromFloat32, toFloat32 } from '../../core/half.ts'
import type { QuantizerKernels } from '../../core/kernels.ts'
import type { AdditiveScheme } from '../../weights/scheme.ts'
import type { QuantizedWeight } from '../../weights/weight.ts'
import type { QuantizeInput } from '../types.ts'
import type { SearchSettings } from './config.ts'
import { runLinear } from './kernels.ts'
import { type LinearResult, quantizeLinear } from './oracle.ts'
import type { Problem } from './problem.ts'
import { type TargetData, targetWeight, together } from './target.ts'

/** How one linear is quantised. */
export interface AqlmSettings {
  readonly scheme: AdditiveScheme
  readonly search: SearchSettings
}

/** A linear without the rest of its block. */
export async function quantize({ name }: QuantizeInput<AqlmSettings>): Promise<QuantizedWeight> {
  throw new UnsupportedError(`Cannot quantise "${name}" with AQLM by itself: it needs calibration data`, {
    tensor: name,
    hint: 'fewbit quantize MODEL --method aqlm --calibration FILE -o OUT',
  })
}

export interface LinearInput {
  readonly name: string
  readonly tensor: RawTensor
  readonly settings: AqlmSettings
  /** Moments of its inputs, and of what its outputs lack with the weight as it is, by halves of the calibration rows. */
  readonly halves: readonly [TargetData, TargetData]
  readonly kernels?: QuantizerKernels
}

/** Codebooks and scales have the model's dtype; float16 where that is float32, as every reader of the format expects 16 bits. */
const codebookDtype = ({ dtype }: RawTensor): FloatDType => (dtype === 'BF16' ? 'BF16' : 'F16')

/** The weight, and its error on the calibration data relative to the energy there of what it approximates. Throws WeightError naming what is not finite. */
export async function quantizeTensor(
  input: LinearInput,
): Promise<{ readonly weight: QuantizedWeight; readonly relativeError: number }> {
  const { name, tensor, settings, halves, kernels } = input
  const { scheme, search } = settings
  const [rows, columns] = tensor.shape
  const w = kernels ? kernels.toFloat32(tensor) : toFloat32(tensor)
  refuseNonFinite(name, 'element', w, 'the checkpoint may be damaged, or leave this module float')
  const all = together(halves)
  refuseNonFinite(name, 'second moment of the inputs: element', all.h, 'the model overflows on the calibration data')
  refuseNonFinite(name, 'error of the outputs: element', all.d, 'the model overflows on the calibration data')
  const target = await targetWeight({ rows, columns, w, halves }, kernels, all)
  const problem: Problem = { scheme, rows, columns, w: target, h: all.h }
  const dtype = codebookDtype(tensor)
  const result = kernels ? await runLinear(kernels, problem, search, dtype) : quantizeLinear(problem, search, dtype)
  return {
    weight: additiveWeight(name, tensor, scheme, result),
    relativeError: result.energy > 0 ? result.error / result.energy : 0,
  }
}

function refuseNonFinite(name: string, what: string, values: Float32Array | Float64Array, hint: string): void {
  const i = values.findIndex((value: number) => !Number.isFinite(value))
  if (i < 0) return
  throw new WeightError(`Cannot quantise "${name}": ${what} ${i} is ${values[i]}`, {
    tensor: name,
    index: i,
    actual: values[i],
    hint,
  })
}

function additiveWeight(
  name: string,
  tensor: RawTensor,
  scheme: AdditiveScheme,
  { codes, codebooks, scale }: LinearResult,
): QuantizedWeight {
  const dtype = codebookDtype(tensor)
  const [rows, columns] = tensor.shape
  const { bits, group } = scheme
  refuseNonFinite(name, `in ${dtype}, codebook value`, codebooks, '--dtype bfloat16')
  refuseNonFinite(name, `in ${dtype}, the scale of row group`, scale, '--dtype bfloat16')
  const outs = rows / group.out
  const codesShape = [outs, columns / group.in, scheme.codebooks]
  const codebooksShape = [scheme.codebooks, 2 ** bits, group.out, group.in]
  return {
    scheme,
    shape: tensor.shape,
    parts: {
      codes: bits <= 8 ? rawTensor('U8', codesShape, Uint8Array.from(codes)) : rawTensor('U16', codesShape, codes),
      codebooks: rawTensor(dtype, codebooksShape, fromFloat32(codebooks, dtype)),
      scale: rawTensor(dtype, [outs], fromFloat32(scale, dtype)),
    },
  }
}
