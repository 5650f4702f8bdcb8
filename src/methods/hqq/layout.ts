// How a weight is regrouped before it is quantised and packed. The regrouped matrix is a reshape: its flat order is the weight's.
import { DTYPE_BYTES, type DType, elementCount } from '../../core/dtypes.ts'
import type { Grouping } from '../../weights/scheme.ts'
import type { HqqSettings } from './config.ts'

export interface Layout {
  /** The regrouped matrix [R, C]; groups are its rows (axis 1) or its columns (axis 0). */
  readonly rows: number
  readonly columns: number
  readonly group: Grouping
  /** Number of groups. */
  readonly groups: number
  /** `group_size`, also where whole rows or columns are the groups. */
  readonly groupSize: number
  /** Shape of scale and zero in the file. */
  readonly metaShape: readonly number[]
}

/** The regrouping of a weight [N, K] by legal settings. A tensor with one scale is not regrouped. */
export function layoutOf(shape: readonly number[], settings: HqqSettings): Layout {
  const { axis, channelWise } = settings
  const [n, k] = shape
  const count = elementCount(shape)
  const groupSize = settings.groupSize ?? (axis === 1 ? k : n)
  if (!channelWise)
    return { rows: n, columns: k, groupSize, group: { kind: 'tensor', size: count }, groups: 1, metaShape: [] }
  const groups = count / groupSize
  return axis === 1
    ? {
        rows: groups,
        columns: groupSize,
        groupSize,
        group: { kind: 'flat', size: groupSize },
        groups,
        metaShape: [groups, 1],
      }
    : {
        rows: groupSize,
        columns: groups,
        groupSize,
        group: { kind: 'strided', size: groupSize },
        groups,
        metaShape: [1, groups],
      }
}

/** Why a weight [N, K] of `dtype` cannot be stored by these settings, or undefined. */
export function layoutProblem(shape: readonly number[], settings: HqqSettings, dtype: DType): string | undefined {
  const { packing, viewAsFloat } = settings
  if (shape.length !== 2) return `it has ${shape.length} dimensions, expected 2`
  const count = elementCount(shape)
  if (count === 0) return 'it is empty'
  const { rows, columns, groupSize } = layoutOf(shape, settings)
  if (count % groupSize !== 0) return `its ${count} weights do not divide into groups of ${groupSize}`
  const slots = packing.shifts.length
  if (packing.word === 'U8' && rows % slots !== 0)
    return `it is regrouped as [${rows}, ${columns}], and ${rows} rows do not divide by ${slots} as ${packing.name} packing needs`
  const rowBytes = columns * DTYPE_BYTES[packing.word]
  if (viewAsFloat && rowBytes % DTYPE_BYTES[dtype] !== 0)
    return `with view_as_float its packed rows of ${rowBytes} bytes do not divide into ${dtype} elements`
  return undefined
}
