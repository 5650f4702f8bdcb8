// Scheme -> scheme with the codes kept: what another format can say of a weight without quantising it again. One pair today, affine groups
// with a zero point (HQQ axis 1) -> Q4_1; measured, its values move by 0.01 of a step at most, quantising again by half a step.
import { rawTensor } from '../core/dtypes.ts'
import { fromFloat32, toFloat32 } from '../core/half.ts'
import { AFFINE_BLOCK_SIZE, affineBlockWeight } from './affine-blocks.ts'
import { type AffineScheme, groupsFollowRows, type Scheme } from './scheme.ts'
import { part, type QuantizedWeight } from './weight.ts'

/** Types that some scheme can be written as. */
export type KeptType = 'Q4_1'

export interface ReExpressed {
  readonly weight: QuantizedWeight<AffineScheme>
  /** Largest change of a value, in steps of its group: the scale and the minimum are rounded to half precision. */
  readonly largestChange: number
}

/** True where a weight [N, K] of this scheme can keep its codes as `type`. */
export function canReExpress(scheme: Scheme, [, k]: readonly number[], _type: KeptType): boolean {
  return (
    scheme.kind === 'affine' &&
    scheme.bits <= 4 &&
    !scheme.activations &&
    groupsFollowRows(scheme.group, k) &&
    scheme.group.size % AFFINE_BLOCK_SIZE === 0
  )
}

/** The weight as blocks of `type`, with the same codes. Undefined where it cannot be, or a scale leaves the range of half precision. */
export function reExpress(weight: QuantizedWeight, type: KeptType): ReExpressed | undefined {
  const { scheme, shape } = weight
  if (scheme.kind !== 'affine' || !canReExpress(scheme, shape, type)) return undefined
  const scale = toFloat32(part(weight, 'scale'))
  const zeros = typeof scheme.zero === 'string' ? toFloat32(part(weight, scheme.zero)) : undefined
  const minimum = scale.map((s, g) => (scheme.zero === 'shift' ? zeros![g] : -(zeros?.[g] ?? Number(scheme.zero)) * s))
  const blocks = scheme.group.size / AFFINE_BLOCK_SIZE
  const spread = (values: Float32Array) =>
    fromFloat32(
      Float32Array.from({ length: values.length * blocks }, (_, b) => values[Math.floor(b / blocks)]),
      'F16',
    )
  const [d, m] = [spread(scale), spread(minimum)]
  const groups = [scale.length * blocks]
  const [rounded, least] = [d, m].map((data) => toFloat32(rawTensor('F16', groups, data)))
  const top = 2 ** scheme.bits - 1
  let largestChange = 0
  for (let g = 0; g < scale.length; g++) {
    const [step, low] = [rounded[g * blocks], least[g * blocks]]
    if (!Number.isFinite(step) || !Number.isFinite(low)) return undefined
    if (scale[g] === 0) continue
    // The change is linear in the code: it is largest at one of the ends.
    const change = Math.max(Math.abs(low - minimum[g]), Math.abs(low - minimum[g] + top * (step - scale[g])))
    largestChange = Math.max(largestChange, change / Math.abs(scale[g]))
  }
  return { weight: affineBlockWeight(type, shape, part(weight, 'codes').data, d, m), largestChange }
}
