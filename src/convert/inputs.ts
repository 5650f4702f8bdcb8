// What the jobs of a run compute from, slice by slice, read one ahead of the work.
import type { RawTensor } from '../core/dtypes.ts'
import { hold } from './conveyor.ts'
import type { ComputeJob, Job } from './plan.ts'

/** Inputs that live at once: one is read, one computed, and one may lie in the outputs that are being written. */
const INPUTS = 3

/** The inputs of all jobs that compute, slice by slice in order; one is read ahead. */
export class Inputs {
  private readonly loads: ((into: Uint8Array) => Promise<RawTensor>)[]
  private readonly buffers: Uint8Array[] = []
  private readonly sliceBytes: number
  private next = 0
  private ahead: Promise<RawTensor> | undefined

  constructor(jobs: readonly Job[], sliceBytes: number) {
    this.sliceBytes = sliceBytes
    this.loads = jobs.flatMap((job) =>
      job.action === 'copy' || job.action === 'calibrate'
        ? []
        : slicesOf(job, sliceBytes).map(
            ([from, to]) =>
              (into: Uint8Array) =>
                job.load(from, to, into),
          ),
    )
    this.ahead = this.start()
  }

  /** The next input; the one after it begins to be read. */
  take(): Promise<RawTensor> {
    const input = this.ahead!
    this.ahead = this.start()
    return input
  }

  /** One read is ahead of the work and one write behind it: a buffer's turn comes when its bytes are done with. */
  private start(): Promise<RawTensor> | undefined {
    const turn = this.next % INPUTS
    const load = this.loads[this.next++]
    if (!load) return undefined
    this.buffers[turn] ??= new Uint8Array(this.sliceBytes)
    return hold(load(this.buffers[turn]))
  }
}

/** The row ranges of a job; one range where it is computed whole. */
export function slicesOf(job: ComputeJob, sliceBytes: number): (readonly [number, number])[] {
  const rows = job.slice?.rows ?? 0
  if (!job.slice || rows === 0) return [[0, rows]]
  const perRow = job.inputBytes / rows
  const step = Math.max(1, Math.floor(sliceBytes / (perRow * job.slice.step))) * job.slice.step
  const slices: (readonly [number, number])[] = []
  for (let from = 0; from < rows; from += step) slices.push([from, Math.min(rows, from + step)])
  return slices
}
