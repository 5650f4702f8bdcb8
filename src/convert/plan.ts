// What a conversion will do, before a byte is read: one job a source tensor, as data that `explain` prints.
import type { RawTensor } from '../core/dtypes.ts'
import type { NamedTensor } from '../methods/types.ts'

/** A tensor of the result. `dtype` is the container's spelling. */
export interface OutputTensor {
  readonly name: string
  readonly dtype: string
  readonly shape: readonly number[]
}

interface JobBase {
  /** Name of the source tensor: what progress and journal call the job. */
  readonly name: string
  readonly inputBytes: number
}

/** The bytes of one tensor as they are, read in pieces. */
export interface CopyJob extends JobBase {
  readonly action: 'copy'
  readonly output: OutputTensor
  /** Bytes [from, to), which may lie in `into`. */
  read(from: number, to: number, into?: Uint8Array): Promise<Uint8Array>
}

/** One tensor computed from another. */
export interface ComputeJob extends JobBase {
  readonly action: 'quantize' | 'cast'
  /** Undefined where the result's size is known only when it has been computed. */
  readonly outputs: readonly OutputTensor[] | undefined
  /**
   * Set where pieces of `step` rows (or a multiple) can be computed on their own, the bytes of each output being those of the pieces
   * joined; `outputs` is known then.
   */
  readonly slice?: { readonly rows: number; readonly step: number }
  /** The whole tensor, or its rows [from, to); its bytes may lie in `into`, which is theirs until the outputs are written. */
  load(from: number, to: number, into?: Uint8Array): Promise<RawTensor>
  run(input: RawTensor, firstRow: number): Promise<readonly NamedTensor[]>
}

/** One tensor that comes out of the work on many (a block and its calibration data), which reads for itself. */
export interface CalibrateJob extends JobBase {
  readonly action: 'calibrate'
  readonly outputs: readonly OutputTensor[] | undefined
  run(): Promise<readonly NamedTensor[]>
}

/** Results that are written already, by this run or an interrupted one. */
export interface StoredResults {
  /** The stored tensors of a job; undefined where it is not done. */
  read(job: string): Promise<readonly NamedTensor[] | undefined>
}

export type Job = CopyJob | ComputeJob | CalibrateJob

/** Outputs of a job where they are known before it runs. */
export function outputsOf(job: Job): readonly OutputTensor[] | undefined {
  return job.action === 'copy' ? [job.output] : job.outputs
}

/** One line a job: `quantize model.layers.0.mlp.up_proj.weight -> model.layers.0.mlp.up_proj.weight U8 [...], ...`. */
export function describeJob(job: Job): string {
  const outputs = outputsOf(job)
  const result = outputs
    ? outputs.map((o) => `${o.name} ${o.dtype} [${o.shape.join(', ')}]`).join(', ')
    : 'known when run'
  return `${job.action} ${job.name} (${job.inputBytes} bytes) -> ${result}`
}
