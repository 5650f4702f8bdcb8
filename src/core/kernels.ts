// What a method is given to run its compiled quantisers with; a backend that has kernels implements it.
import type { RawTensor } from './dtypes.ts'

export interface OutputSpec {
  readonly bytes: number
  /** What it holds at first, for kernels that add to it. Default: zeros. */
  readonly initial?: ArrayBufferView
}

/** Runs compiled quantiser kernels (C++): inputs and outputs are flat arrays. Absent: the method uses its TypeScript oracle. */
export interface QuantizerKernels {
  /**
   * Runs export `kernel` of native/kernels/exports.h, which says what the function is given. `params[0]` is the number of units of a
   * FB_UNITS kernel. Inputs are copied in, outputs start as zeros (or `initial`) and are copied out; long jobs let the event loop run now and then.
   */
  run(
    kernel: string,
    inputs: readonly ArrayBufferView[],
    outputs: readonly OutputSpec[],
    params: readonly number[],
  ): Promise<ArrayBuffer[]>
  /** Widens a stored float tensor to float32. */
  toFloat32(tensor: RawTensor): Float32Array
}
