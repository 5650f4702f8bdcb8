// QuantizerKernels on a door: copies arrays in, runs the kernel over its units (or steps) in slices, copies results out.
import { breathe, SLICE_MS } from '../../core/breathe.ts'
import type { RawTensor } from '../../core/dtypes.ts'
import { BugError } from '../../core/errors.ts'
import { toFloat32 } from '../../core/half.ts'
import type { OutputSpec, QuantizerKernels } from '../../core/kernels.ts'
import { allocate, allocateFrom, type Door, kernelOf, places } from './door.ts'

const KIND_UNITS = 1
const KIND_STEPS = 2
/** Elements of a unit of fb_widen. */
const WIDEN_BLOCK = 4096
const WIDEN_TYPES: Readonly<Record<string, number>> = { F32: 0, F16: 1, BF16: 2, F64: 3 }

/** Quantiser kernels behind `door`; regions use the threads that the door was told. */
export function quantizerKernels(door: Door, signal?: AbortSignal): QuantizerKernels {
  const table = places(door)
  const placeOf = (kernel: string): number => {
    const place = table.get(kernel)
    if (place === undefined) kernelOf(door, kernel)
    return place!
  }
  return {
    run: (kernel, inputs, outputs, params) =>
      withJob(door, inputs, outputs, params, async (job) => {
        const place = placeOf(kernel)
        const kind = door.kernels.fb_job_kind(place)
        if (kind === KIND_UNITS) await runUnits(door, place, params[0], job, signal)
        else if (kind === KIND_STEPS) await runSteps(door, place, job, signal)
        else throw new BugError(`"${kernel}" is not a quantiser kernel`, { kernel })
        return job.results()
      }),
    toFloat32: (tensor) => widen(door, placeOf('fb_widen'), tensor),
  }
}

/** Arguments of a kernel in C++ memory. */
interface Job {
  readonly count: number
  readonly args: number
  results(): ArrayBuffer[]
}

/** Lays out inputs, outputs and params for fb_job; the memory lives until `use` has ended. */
async function withJob<T>(
  door: Door,
  inputs: readonly ArrayBufferView[],
  outputs: readonly OutputSpec[],
  params: readonly number[],
  use: (job: Job) => Promise<T>,
): Promise<T> {
  const blocks: number[] = []
  const keep = (pointer: number): number => {
    blocks.push(pointer)
    return pointer
  }
  try {
    const ins = inputs.map((data) => keep(allocateFrom(door, data)))
    const outs = outputs.map(({ bytes }) => keep(allocate(door, bytes)))
    outputs.forEach(({ bytes }, i) => {
      door.kernels.fb_zero(outs[i], bytes)
    })
    const args = Float64Array.from([...ins, ...outs, ...params])
    const results = () =>
      outputs.map(({ bytes }, i) => {
        const buffer = new ArrayBuffer(bytes)
        door.read(outs[i], new Uint8Array(buffer))
        return buffer
      })
    return await use({ count: args.length, args: keep(allocateFrom(door, args)), results })
  } finally {
    for (const block of blocks) door.kernels.fb_free(block)
  }
}

/** Runs all units in slices of about SLICE_MS. */
async function runUnits(door: Door, place: number, units: number, job: Job, signal?: AbortSignal): Promise<void> {
  let slice = Math.max(64, Math.ceil(units / 1024))
  for (let from = 0; from < units; ) {
    const to = Math.min(units, from + slice)
    const start = performance.now()
    door.kernels.fb_job(place, from, to, job.count, job.args)
    const elapsed = Math.max(performance.now() - start, 0.01)
    slice = Math.max(1, Math.ceil((to - from) * Math.min(16, SLICE_MS / elapsed)))
    from = to
    if (from < units && elapsed > SLICE_MS / 4) await breathe()
    signal?.throwIfAborted()
  }
}

async function runSteps(door: Door, place: number, job: Job, signal?: AbortSignal): Promise<void> {
  let breathed = performance.now()
  for (let step = 0; door.kernels.fb_job(place, step, 0, job.count, job.args) !== 0; step++) {
    if (performance.now() - breathed < SLICE_MS) continue
    await breathe()
    signal?.throwIfAborted()
    breathed = performance.now()
  }
}

function widen(door: Door, place: number, tensor: RawTensor): Float32Array {
  const type = WIDEN_TYPES[tensor.dtype]
  if (tensor.dtype === 'F32' || type === undefined) return toFloat32(tensor)
  const count = tensor.data.byteLength / (tensor.dtype === 'F64' ? 8 : 2)
  const units = Math.ceil(count / WIDEN_BLOCK)
  const out = new Float32Array(count)
  const x = allocateFrom(door, tensor.data)
  const y = allocate(door, out.byteLength)
  const args = allocateFrom(door, Float64Array.of(x, y, units, count, type))
  door.kernels.fb_job(place, 0, units, 5, args)
  door.read(y, out)
  for (const block of [x, y, args]) door.kernels.fb_free(block)
  return out
}
