// Quantises one weight: refuses what has no code by name, warns of what collapses, and lays codes, scales and zeros out.
import { type FloatDType, rawTensor } from '../../core/dtypes.ts'
import { WeightError } from '../../core/errors.ts'
import { fromFloat32, toFloat32 } from '../../core/half.ts'
import type { AffineScheme } from '../../weights/scheme.ts'
import { groupOf, type QuantizedWeight } from '../../weights/weight.ts'
import type { QuantizeInput } from '../types.ts'
import type { HqqSettings } from './config.ts'
import { runGroups } from './kernels.ts'
import { type Layout, layoutOf, layoutProblem } from './layout.ts'
import { type HqqResult, MIN_RANGE, quantizeGroups } from './oracle.ts'

const { fround } = Math

const isFiniteArray = (w: Float32Array) => w.every((value) => Number.isFinite(value))

/** Names the first weight that is not finite: the optimiser would stop for all groups. */
function refuseNonFinite(name: string, w: Float32Array): never {
  const i = w.findIndex((value) => !Number.isFinite(value))
  throw new WeightError(`Cannot quantise "${name}": element ${i} is ${w[i]}`, {
    tensor: name,
    index: i,
    actual: w[i],
    hint: 'the checkpoint may be damaged: check it with the tool that made it, or leave this module float',
  })
}

/** The values in the compute dtype. Throws WeightError where one is beyond it. */
function inComputeDtype(name: string, what: string, values: Float32Array, dtype: FloatDType): Uint8Array {
  const bytes = fromFloat32(values, dtype)
  const stored = toFloat32(rawTensor(dtype, [values.length], bytes))
  const i = stored.findIndex((value) => !Number.isFinite(value))
  if (i < 0) return bytes
  throw new WeightError(`Cannot quantise "${name}": the ${what} of group ${i} is ${values[i]}, beyond ${dtype}`, {
    tensor: name,
    group: i,
    actual: values[i],
    hint: dtype === 'F16' ? '--dtype bfloat16' : 'leave this module float',
  })
}

/** Number of groups whose weights differ, but by so little that all get one code. */
function collapsedGroups(w: Float32Array, layout: Layout, { inverseScale }: HqqResult): number {
  if (!inverseScale.includes(1)) return 0
  const low = new Float32Array(layout.groups).fill(Infinity)
  const high = new Float32Array(layout.groups).fill(-Infinity)
  for (let i = 0; i < w.length; i++) {
    const g = groupOf(layout.group, layout.groups, i)
    low[g] = Math.min(low[g], w[i])
    high[g] = Math.max(high[g], w[i])
  }
  return low.filter((value, g) => value < high[g] && fround(high[g] - value) <= MIN_RANGE).length
}

export async function quantize(input: QuantizeInput<HqqSettings>): Promise<QuantizedWeight> {
  const { name, tensor, settings, kernels } = input
  const problem = layoutProblem(tensor.shape, settings, tensor.dtype)
  if (problem)
    throw new WeightError(`Cannot quantise "${name}" [${tensor.shape}] with HQQ: ${problem}`, { tensor: name })
  const layout = layoutOf(tensor.shape, settings)
  const w = kernels ? kernels.toFloat32(tensor) : toFloat32(tensor)
  const result = kernels
    ? await runGroups(kernels, w, layout, settings)
    : isFiniteArray(w) && quantizeGroups(w, layout, settings)
  if (!result) refuseNonFinite(name, w)
  const collapsed = collapsedGroups(w, layout, result)
  if (collapsed > 0)
    input.warn?.(
      `"${name}": ${collapsed} of ${layout.groups} groups have a range below ${MIN_RANGE}: HQQ stores each as one value`,
    )
  const dtype = tensor.dtype as FloatDType
  const scale = result.inverseScale.map((s) => 1 / s)
  const meta = [layout.groups]
  return {
    scheme: hqqScheme(settings, layout),
    shape: tensor.shape,
    parts: {
      codes: rawTensor('U8', tensor.shape, result.codes),
      scale: { dtype, shape: meta, data: inComputeDtype(name, 'scale', scale, dtype) },
      zeroPoint: { dtype, shape: meta, data: inComputeDtype(name, 'zero', result.zero, dtype) },
    },
  }
}

/** The scheme that weights of these settings have; 1.58 bits take codes of 2. */
export function hqqScheme({ bits, packing }: HqqSettings, { group }: Layout): AffineScheme {
  return {
    kind: 'affine',
    bits: (packing.bits === 8 ? bits : packing.bits) as AffineScheme['bits'],
    group,
    zero: 'zeroPoint',
  }
}
