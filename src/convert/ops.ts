// Invertible operations between a stored weight and the graph's. Those on rows move codes and scales alike.
import { DTYPE_BYTES, elementCount, isFloat, type RawTensor, rawTensor } from '../core/dtypes.ts'
import { BugError, UnsupportedError } from '../core/errors.ts'
import { fromFloat32, toFloat32 } from '../core/half.ts'
import { groupsFollowRows, type Scheme } from '../weights/scheme.ts'
import { denseWeight, type QuantizedWeight, restoreScales } from '../weights/weight.ts'

/**
 * What a container does to a weight of the graph:
 * - `permuteRope`: rotary rows are interleaved (GGUF llama): per head, row pairs (i, i + D/2) lie side by side;
 * - `transpose`: a float [N, K] is stored as [K, N] (Conv1D); stored quantised it is [N, K] all the same;
 * - `addOne`: a float vector is stored with 1 added (Gemma's norms in GGUF).
 */
export type WeightOp = PermuteRope | { readonly kind: 'transpose' } | { readonly kind: 'addOne' }

interface PermuteRope {
  readonly kind: 'permuteRope'
  readonly heads: number
}

/** Shape in the container of a float of the graph's `shape`. */
export function storedShape(op: WeightOp | undefined, shape: readonly number[]): readonly number[] {
  return op?.kind === 'transpose' ? [...shape].reverse() : shape
}

/** A weight as the container has it -> the graph's. */
export function toGraph(op: WeightOp | undefined, weight: QuantizedWeight): QuantizedWeight {
  return apply(op, weight, true)
}

/** A weight of the graph -> as the container has it. */
export function fromGraph(op: WeightOp | undefined, weight: QuantizedWeight): QuantizedWeight {
  return apply(op, weight, false)
}

function apply(op: WeightOp | undefined, weight: QuantizedWeight, undo: boolean): QuantizedWeight {
  switch (op?.kind) {
    case undefined:
      return weight
    case 'permuteRope':
      return reorderRows(weight, rowOrder(op, weight.shape[0], undo))
    case 'transpose':
      // Only floats are stored transposed.
      return weight.scheme.kind === 'dense' ? denseWeight(transpose(weight.parts.values)) : weight
    case 'addOne':
      return denseWeight(shifted(denseValues(weight, op), undo ? -1 : 1))
    default:
      return op satisfies never
  }
}

function denseValues(weight: QuantizedWeight, op: WeightOp): RawTensor {
  if (weight.scheme.kind === 'dense') return weight.parts.values
  throw new UnsupportedError(`Cannot undo "${op.kind}" on a quantised weight`, { scheme: weight.scheme.kind })
}

/** Values of a tile's side: both sides of a tile stay in the cache. */
const TILE = 32

/** [A, B] -> [B, A], element by element as it is. */
export function transpose(tensor: RawTensor): RawTensor {
  const [rows, columns] = tensor.shape
  const bytes = DTYPE_BYTES[tensor.dtype]
  const Elements = { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array, 8: BigUint64Array }[bytes]
  if (tensor.shape.length !== 2 || !Elements) throw new BugError(`Cannot transpose ${tensor.dtype} [${tensor.shape}]`)
  const x = new Elements(tensor.data.slice().buffer)
  const y = new Elements(elementCount(tensor.shape))
  for (let row = 0; row < rows; row += TILE)
    for (let column = 0; column < columns; column += TILE)
      for (let r = row; r < Math.min(row + TILE, rows); r++)
        for (let c = column; c < Math.min(column + TILE, columns); c++) y[c * rows + r] = x[r * columns + c]
  return rawTensor(tensor.dtype, [columns, rows], y)
}

/** Every value plus `by`, rounded to the tensor's dtype. */
function shifted(tensor: RawTensor, by: number): RawTensor {
  if (!isFloat(tensor.dtype)) throw new BugError(`Cannot add to ${tensor.dtype} values`)
  const values = toFloat32(tensor).map((x) => x + by)
  return { ...tensor, data: fromFloat32(values, tensor.dtype) }
}

/** For each row of the result, the row of the input. `undo`: file -> graph. */
export function rowOrder(op: PermuteRope, rows: number, undo: boolean): Uint32Array {
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
