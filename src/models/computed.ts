// How views of a checkpoint give ranges: of a tensor that is stored as it is, or with its rows in another order, straight from the file; of
// one that is computed, from the whole, which is kept until its last range has been asked for.
import type { Checkpoint, StoredTensor } from '../checkpoint/types.ts'

/** Rows of a stored tensor: for each row of the result the row that it is. Rows near one another come from rows near one another. */
export interface Reordered {
  readonly stored: StoredTensor
  readonly order: Uint32Array
}

/** Where the bytes of a view's tensor come from: those of a stored tensor, its rows in another order, or a computation. */
export type Origin = StoredTensor | Reordered | (() => Promise<Uint8Array>)

/** Computed tensors that are kept: the one in work and the one after it. */
const KEPT = 2

/** The `read` of a view: `origin` tells by name. */
export function viewReader(
  read: Checkpoint['read'],
  origin: (tensor: StoredTensor) => Origin | undefined,
): Checkpoint['read'] {
  const kept = new Map<string, Promise<Uint8Array>>()
  const readReordered = reorderingReader(read)
  return async (tensor, from = 0, to = tensor.byteLength, into) => {
    const source = origin(tensor) ?? tensor
    if (typeof source !== 'function')
      return 'order' in source ? readReordered(source, from, to, into) : read(source, from, to, into)
    const whole = kept.get(tensor.name) ?? source()
    kept.delete(tensor.name)
    if (to < tensor.byteLength) kept.set(tensor.name, whole)
    if (kept.size > KEPT) kept.delete([...kept.keys()][0])
    return (await whole).subarray(from, to)
  }
}

/** Reads the run of stored rows that holds those of a range, and takes them out of it; its memory is used again. */
function reorderingReader(read: Checkpoint['read']) {
  const spare: Uint8Array[] = []
  return async ({ stored, order }: Reordered, from: number, to: number, into?: Uint8Array): Promise<Uint8Array> => {
    const width = stored.byteLength / order.length
    const [first, last] = [Math.floor(from / width), Math.ceil(to / width)]
    const wanted = order.subarray(first, last)
    const lowest = wanted.reduce((low, row) => Math.min(low, row), order.length)
    const end = wanted.reduce((high, row) => Math.max(high, row + 1), 0)
    const room = (end - lowest) * width
    const scratch = spare.pop()
    const rows = await read(stored, lowest * width, end * width, scratch ?? new Uint8Array(room))
    const out = into && into.length >= to - from ? into.subarray(0, to - from) : new Uint8Array(to - from)
    for (let row = first; row < last; row++) {
      const at = row * width
      const [a, b] = [Math.max(from, at), Math.min(to, at + width)]
      const start = (order[row] - lowest) * width - at
      out.set(rows.subarray(start + a, start + b), a - from)
    }
    spare.push(scratch && scratch.length >= room ? scratch : rows)
    return out
  }
}
