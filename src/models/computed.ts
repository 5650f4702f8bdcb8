// How views of a checkpoint give ranges: of a tensor that is stored as it is, straight from the file; of one that is computed, from the
// whole, which is kept until its last range has been asked for.
import type { Checkpoint, StoredTensor } from '../checkpoint/types.ts'

/** Where the bytes of a view's tensor come from: those of a stored tensor, or a computation. */
export type Origin = StoredTensor | (() => Promise<Uint8Array>)

/** Computed tensors that are kept: the one in work and the one after it. */
const KEPT = 2

/** The `read` of a view: `origin` tells by name. */
export function viewReader(
  read: Checkpoint['read'],
  origin: (tensor: StoredTensor) => Origin | undefined,
): Checkpoint['read'] {
  const kept = new Map<string, Promise<Uint8Array>>()
  return async (tensor, from = 0, to = tensor.byteLength, into) => {
    const source = origin(tensor)
    if (typeof source !== 'function') return read(source ?? tensor, from, to, into)
    const whole = kept.get(tensor.name) ?? source()
    kept.delete(tensor.name)
    if (to < tensor.byteLength) kept.set(tensor.name, whole)
    if (kept.size > KEPT) kept.delete([...kept.keys()][0])
    return (await whole).subarray(from, to)
  }
}
