// Invertible operations between a stored weight and the graph's: on rows, so that codes and scales move alike.
import { type RawTensor, rawTensor } from '../core/dtypes.ts'
import { UnsupportedError } from '../core/errors.ts'
import { groupsFollowRows, type Scheme } from '../weights/scheme.ts'
import { type QuantizedWeight, restoreScales } from '../weights/weight.ts'

/** `permuteRope`: the file holds rotary rows interleaved (GGUF llama): per head, row pairs (i, i + D/2) lie side by side. */
export interface RowOp {
  readonly kind: 'permuteRope'
  readonly heads: number
}

/** For each row of the result, the row of the input. `undo`: file -> graph. */
export function rowOrder(op: RowOp, rows: number, undo: boolean): Uint32Array {
  const headDim = rows / op.heads
  const half = headDim / 2
  const order = new Uint32Array(rows)
  for (let r = 0; r < rows; r++) {
    const head = Math.floor(r / headDim) * headDim
    const i = r - head
    order[r] = undo ? head + (i < half ? 2 * i : 2 * (i - half) + 1) : head + (i % 2 === 0 ? i / 2 : half + (i - 1) / 2)
  }
  return order
}

/**
 * The weight with its rows in another order, codes and scales alike; values are exactly those of the rows. Throws UnsupportedError
 * where groups cross rows (HQQ axis 0, one scale a tensor, AQLM groups of several rows).
 */
export function reorderRows(weight: QuantizedWeight, order: Uint32Array): QuantizedWeight {
  const { scheme, shape, parts } = withPlainScales(weight)
  const rows = shape[0]
  if (!rowsAreFree(scheme, shape[1])) {
    throw new UnsupportedError('Cannot reorder the rows of a weight whose groups cross rows', { scheme: scheme.kind })
  }
  const move = (tensor: RawTensor): RawTensor => {
    const stride = tensor.data.byteLength / rows
    const data = new Uint8Array(tensor.data.byteLength)
    order.forEach((from, to) => {
      data.set(tensor.data.subarray(from * stride, (from + 1) * stride), to * stride)
    })
    return { ...tensor, data }
  }
  return {
    scheme,
    shape,
    parts: Object.fromEntries(
      Object.entries(parts).map(([name, part]) => [name, name === 'codebooks' ? part : move(part)]),
    ),
  }
}

/** True where every row has codes and scales of its own. */
function rowsAreFree(scheme: Scheme, columns: number): boolean {
  if (scheme.kind === 'additive') return scheme.group.out === 1
  return !('group' in scheme) || groupsFollowRows(scheme.group, columns)
}

/** Nested scales belong to runs of groups that may span rows: they are restored, which is exact, before rows move. */
function withPlainScales(weight: QuantizedWeight): QuantizedWeight {
  if (weight.scheme.kind !== 'lookup' || weight.scheme.nestedSize === undefined) return weight
  const { nestedSize: _, ...scheme } = weight.scheme
  const scale = restoreScales(weight)
  return { ...weight, scheme, parts: { codes: weight.parts.codes, scale: rawTensor('F32', [scale.length], scale) } }
}
