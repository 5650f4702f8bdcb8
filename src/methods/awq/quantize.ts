// From a weight to its codes: the last step of a block, and all there is for a weight without calibration data.
import { rawTensor } from '../../core/dtypes.ts'
import { WeightError } from '../../core/errors.ts'
import { fromFloat32, toFloat32 } from '../../core/half.ts'
import type { QuantizerKernels } from '../../core/kernels.ts'
import type { QuantizedWeight } from '../../weights/weight.ts'
import type { QuantizeInput } from '../types.ts'
import type { AwqSettings } from './config.ts'
import { finalCodes } from './kernels.ts'

/** The largest float16. */
const LARGEST = 65504

/** Quantises w [N, K], clamped by `clip` [N, groups] where it is given. Throws WeightError where float16 cannot hold a weight or a scale. */
export async function quantizeValues(
  name: string,
  w: Float32Array,
  shape: readonly number[],
  { bits, group, symmetric }: AwqSettings,
  clip?: Float32Array,
  kernels?: QuantizerKernels,
): Promise<QuantizedWeight> {
  const [rows, columns] = shape
  const spec = { rows, columns, group, bits, symmetric, dtype: 'F16' } as const
  const { codes, scale, zero, bad } = await finalCodes(w, clip, spec, kernels)
  if (bad !== undefined) refuse(name, w, bad, group)
  const groups = [scale.length]
  return {
    scheme: { kind: 'affine', bits, group: { kind: 'flat', size: group }, zero: 'zeroPoint' },
    shape,
    parts: {
      codes: rawTensor('U8', shape, codes),
      scale: { dtype: 'F16', shape: groups, data: fromFloat32(scale, 'F16') },
      zeroPoint: { dtype: 'F16', shape: groups, data: fromFloat32(Float32Array.from(zero), 'F16') },
    },
  }
}

function refuse(name: string, w: Float32Array, bad: number, group: number): never {
  const values = w.subarray(bad * group, (bad + 1) * group)
  const at = values.findIndex((v) => !(Math.abs(v) <= LARGEST))
  const problem =
    at < 0 ? 'its range is beyond float16' : `element ${bad * group + at} is ${values[at]}, beyond float16`
  throw new WeightError(`Cannot quantise "${name}" with AWQ: group ${bad}: ${problem}`, {
    tensor: name,
    group: bad,
    actual: at < 0 ? undefined : values[at],
    hint: 'AWQ stores float16: leave this module float with --modules-to-not-convert',
  })
}

/** Without data there is nothing to search: the weight is rounded as it is. */
export async function quantize({
  name,
  tensor,
  settings,
  kernels,
}: QuantizeInput<AwqSettings>): Promise<QuantizedWeight> {
  const w = kernels ? kernels.toFloat32(tensor) : toFloat32(tensor)
  return quantizeValues(name, w, tensor.shape, settings, undefined, kernels)
}
