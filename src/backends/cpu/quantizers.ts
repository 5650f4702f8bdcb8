// QuantizerKernels on a door: copies arrays in, runs the kernel, copies results out.
import type { RawTensor } from '../../core/dtypes.ts'
import { toFloat32 } from '../../core/half.ts'
import type { QuantizerKernels } from '../../core/kernels.ts'
import { DECODE_TYPES } from '../../weights/decode-kernel.ts'
import type { Door } from './door.ts'
import { Blocks, Jobs } from './jobs.ts'
import { widenUnits } from './prepare.ts'

/** Quantiser kernels behind `door`; regions use the threads that the door was told. */
export function quantizerKernels(door: Door, signal?: AbortSignal): QuantizerKernels {
  const jobs = new Jobs(door, signal)
  return {
    async run(kernel, inputs, outputs, params) {
      const blocks = new Blocks(door)
      try {
        const ins = inputs.map((data) => blocks.takeFrom(data))
        const outs = outputs.map(({ bytes }) => blocks.take(bytes))
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
        blocks.free()
      }
    },
    toFloat32: (tensor) => widen(jobs, tensor),
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
