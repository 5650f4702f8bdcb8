// How views of a checkpoint give ranges of tensors that are not stored so: with their rows in another order or in another dtype, from the
// range of the file that they come from; computed, from the whole, which is kept until its last range has been asked for.
import type { Checkpoint, StoredTensor } from '../checkpoint/types.ts'
import { DTYPE_BYTES, type FloatDType, rawTensor } from '../core/dtypes.ts'
import type { QuantizerKernels } from '../core/kernels.ts'
import { castWith } from '../weights/decode-kernel.ts'

/** The bytes [from, to) of a tensor; they may lie in `into`, where it is long enough. */
export type RangeReader = (from: number, to: number, into?: Uint8Array) => Promise<Uint8Array>

/** Computed tensors that are kept: the one in work and the one after it. */
const KEPT = 2

/** The tensors of one view: `set` says how each comes about, `read` is the view's. */
export class ViewRanges {
  private readonly source: Checkpoint['read']
  private readonly byName = new Map<string, RangeReader>()
  private readonly memory = new Spare()
  private readonly kept = new Map<string, Promise<Uint8Array>>()
  constructor(source: Checkpoint['read']) {
    this.source = source
  }

  /** Tensors that are not set are the source's as they are. */
  readonly read: Checkpoint['read'] = async (tensor, from = 0, to = tensor.byteLength, into) => {
    if (from === to) return new Uint8Array(0)
    const range = this.byName.get(tensor.name)
    return range ? range(from, to, into) : this.source(tensor, from, to, into)
  }

  set(name: string, range: RangeReader): void {
    this.byName.set(name, range)
  }

  /** A stored tensor as it is. */
  stored(tensor: StoredTensor): RangeReader {
    return (from, to, into) => this.source(tensor, from, to, into)
  }

  /**
   * A tensor whose rows, of `width` bytes, stand in another order: `order` tells for each the row that it is. Rows near one another must
   * come from rows near one another, for all from the lowest to the highest are read.
   */
  reordered(read: RangeReader, width: number, order: Uint32Array): RangeReader {
    return async (from, to, into) => {
      const [first, last] = [Math.floor(from / width), Math.ceil(to / width)]
      const wanted = order.subarray(first, last)
      const lowest = wanted.reduce((low, row) => Math.min(low, row), order.length)
      const end = wanted.reduce((high, row) => Math.max(high, row + 1), 0)
      return this.memory.use((end - lowest) * width, async (scratch) => {
        const rows = await read(lowest * width, end * width, scratch)
        const out = into && into.length >= to - from ? into.subarray(0, to - from) : new Uint8Array(to - from)
        for (let row = first; row < last; row++) {
          const at = row * width
          const [a, b] = [Math.max(from, at), Math.min(to, at + width)]
          const start = (order[row] - lowest) * width - at
          out.set(rows.subarray(start + a, start + b), a - from)
        }
        return out
      })
    }
  }

  /** The float tensor `name` in another dtype, by `kernels` where they are given. Reading throws WeightError where float16 overflows. */
  cast(
    name: string,
    read: RangeReader,
    [dtype, target]: readonly [FloatDType, FloatDType],
    kernels?: QuantizerKernels,
  ): RangeReader {
    const [width, made] = [DTYPE_BYTES[dtype], DTYPE_BYTES[target]]
    return async (from, to) => {
      const [first, last] = [Math.floor(from / made), Math.ceil(to / made)]
      const { data } = await this.memory.use((last - first) * width, async (scratch) => {
        const tensor = rawTensor(dtype, [last - first], await read(first * width, last * width, scratch))
        return castWith(kernels, name, tensor, target, first)
      })
      return data.subarray(from - first * made, to - first * made)
    }
  }

  /** A tensor that is computed whole: `compute` gives all its bytes. */
  whole({ name, byteLength }: StoredTensor, compute: () => Promise<Uint8Array>): RangeReader {
    return async (from, to) => {
      const whole = this.kept.get(name) ?? compute()
      this.kept.delete(name)
      if (to < byteLength) this.kept.set(name, whole)
      if (this.kept.size > KEPT) this.kept.delete([...this.kept.keys()][0])
      return (await whole).subarray(from, to)
    }
  }
}

/** Memory that is used again: the pages of new memory cost more than the work in it. */
class Spare {
  private readonly blocks: Uint8Array[] = []

  async use<T>(bytes: number, work: (memory: Uint8Array) => Promise<T>): Promise<T> {
    const found = this.blocks.pop()
    const memory = found && found.length >= bytes ? found : new Uint8Array(bytes)
    try {
      return await work(memory)
    } finally {
      this.blocks.push(memory)
    }
  }
}
