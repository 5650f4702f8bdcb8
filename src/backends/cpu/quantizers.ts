// QuantizerKernels on a door: copies arrays in, runs the kernel, copies results out.
import type { RawTensor } from '../../core/dtypes.ts'
import { toFloat32 } from '../../core/half.ts'
import type { QuantizerKernels } from '../../core/kernels.ts'
import { DECODE_TYPES } from '../../weights/decode-kernel.ts'
import { allocate, type Door } from './door.ts'
import { Blocks, Jobs } from './jobs.ts'
import { widenUnits } from './prepare.ts'

/** Quantiser kernels behind `door`; regions use the threads that the door was told. */
export function quantizerKernels(door: Door, signal?: AbortSignal): QuantizerKernels {
  const jobs = new Jobs(door, signal)
  const spare = new SpareBlocks(door)
  return {
    async run(kernel, inputs, outputs, params) {
      const taken: Block[] = []
      const take = (bytes: number): number => {
        const block = spare.take(bytes)
        taken.push(block)
        return block.pointer
      }
      try {
        const ins = inputs.map((data) => {
          const pointer = take(data.byteLength)
          door.write(pointer, data)
          return pointer
        })
        const outs = outputs.map(({ bytes }) => take(bytes))
        outputs.forEach(({ bytes, initial }, i) => {
          if (initial) door.write(outs[i], initial)
          else door.kernels.fb_zero(outs[i], bytes)
        })
        await jobs.run(kernel, params[0], [...ins, ...outs, ...params])
        return outputs.map(({ bytes }, i) => {
          const buffer = new ArrayBuffer(bytes)
          door.read(outs[i], new Uint8Array(buffer))
          return buffer
        })
      } finally {
        for (const block of taken) spare.give(block)
      }
    },
    toFloat32: (tensor) => widen(jobs, tensor),
  }
}

interface Block {
  readonly pointer: number
  readonly bytes: number
}

/** Blocks that are used again: the pages of a new one cost more than what most kernels do in it. */
class SpareBlocks {
  private static readonly LARGEST = 32 * 1024 * 1024
  private static readonly TOTAL = 64 * 1024 * 1024
  private readonly door: Door
  private readonly blocks: Block[] = []
  private total = 0
  constructor(door: Door) {
    this.door = door
  }

  /** The smallest that is large enough, unless most of it would be wasted; or a new one. */
  take(bytes: number): Block {
    const at = this.blocks.findIndex((block) => block.bytes >= bytes)
    if (at < 0 || this.blocks[at].bytes > 4 * bytes) return { pointer: allocate(this.door, bytes), bytes }
    const [block] = this.blocks.splice(at, 1)
    this.total -= block.bytes
    return block
  }

  give(block: Block): void {
    if (block.bytes > SpareBlocks.LARGEST) {
      this.door.kernels.fb_free(block.pointer)
      return
    }
    const at = this.blocks.findIndex((other) => other.bytes >= block.bytes)
    this.blocks.splice(at < 0 ? this.blocks.length : at, 0, block)
    this.total += block.bytes
    while (this.total > SpareBlocks.TOTAL) {
      const { pointer, bytes } = this.blocks.shift()!
      this.door.kernels.fb_free(pointer)
      this.total -= bytes
    }
  }
}

function widen(jobs: Jobs, tensor: RawTensor): Float32Array {
  const type = DECODE_TYPES[tensor.dtype]
  if (tensor.dtype === 'F32' || type === undefined) return toFloat32(tensor)
  const { door } = jobs
  const blocks = new Blocks(door)
  try {
    const { count, units } = widenUnits(tensor)
    const out = new Float32Array(count)
    const x = blocks.takeFrom(tensor.data)
    const y = blocks.take(out.byteLength)
    jobs.runNow('fb_cast', units, [x, y, units, count, type, 0])
    door.read(y, out)
    return out
  } finally {
    blocks.free()
  }
}
