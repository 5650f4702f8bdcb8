// H: the second moment of a linear's inputs over all calibration rows, summed in float64 and given in float32, symmetric to the bit.
import type { QuantizerKernels } from '../../core/kernels.ts'

const { fround } = Math

/** Rows whose products are added in float32. */
const CHUNK = 256
/** Rows of the moment in a unit of the kernel. */
const STRIP = 8

/** Adds x^T x of rows x [rows, columns] to the upper triangle of `moment`. The definition of fb_second_moment. */
export function addMoment(moment: Float64Array, x: Float32Array, columns: number): void {
  const rows = x.length / columns
  for (let from = 0; from < rows; from += CHUNK)
    for (let a = 0; a < columns; a++)
      for (let b = a; b < columns; b++) {
        let sum = 0
        for (let n = from; n < Math.min(rows, from + CHUNK); n++)
          sum = fround(sum + fround(x[n * columns + a] * x[n * columns + b]))
        moment[a * columns + b] += sum
      }
}

export class SecondMoment {
  private readonly columns: number
  private readonly kernels: QuantizerKernels | undefined
  private sums: Float64Array
  rows = 0

  constructor(columns: number, kernels: QuantizerKernels | undefined) {
    this.columns = columns
    this.kernels = kernels
    this.sums = new Float64Array(columns * columns)
  }

  async add(x: Float32Array): Promise<void> {
    const { columns, kernels } = this
    const rows = x.length / columns
    this.rows += rows
    if (!kernels) return addMoment(this.sums, x, columns)
    const bytes = this.sums.byteLength
    const params = [Math.ceil(columns / STRIP), rows, columns]
    const [sums] = await kernels.run('fb_second_moment', [x, this.sums], [{ bytes }], params)
    this.sums = new Float64Array(sums)
  }

  /** [columns, columns]: the mean over all rows. */
  mean(): Float32Array {
    const { columns, sums, rows } = this
    const h = new Float32Array(columns * columns)
    for (let a = 0; a < columns; a++)
      for (let b = a; b < columns; b++)
        h[a * columns + b] = h[b * columns + a] = sums[a * columns + b] / Math.max(1, rows)
    return h
  }
}

/** Adds (wanted - given)^T x of rows wanted and given [rows, outputs], x [rows, columns] to `moment`. The definition of fb_error_moment. */
export function addErrorMoment(
  moment: Float64Array,
  wanted: Float32Array,
  given: Float32Array,
  x: Float32Array,
  columns: number,
): void {
  const rows = x.length / columns
  const outputs = wanted.length / rows
  for (let from = 0; from < rows; from += CHUNK)
    for (let a = 0; a < outputs; a++)
      for (let b = 0; b < columns; b++) {
        let sum = 0
        for (let n = from; n < Math.min(rows, from + CHUNK); n++) {
          const error = fround(wanted[n * outputs + a] - given[n * outputs + a])
          sum = fround(sum + fround(error * x[n * columns + b]))
        }
        moment[a * columns + b] += sum
      }
}

/** D: what outputs lack, by inputs, over all calibration rows. */
export class ErrorMoment {
  private readonly outputs: number
  private readonly columns: number
  private readonly kernels: QuantizerKernels | undefined
  private sums: Float64Array
  private rows = 0

  constructor(outputs: number, columns: number, kernels: QuantizerKernels | undefined) {
    this.outputs = outputs
    this.columns = columns
    this.kernels = kernels
    this.sums = new Float64Array(outputs * columns)
  }

  async add(wanted: Float32Array, given: Float32Array, x: Float32Array): Promise<void> {
    const { outputs, columns, kernels } = this
    const rows = x.length / columns
    this.rows += rows
    if (!kernels) return addErrorMoment(this.sums, wanted, given, x, columns)
    const bytes = this.sums.byteLength
    const params = [Math.ceil(outputs / STRIP), rows, outputs, columns]
    const [sums] = await kernels.run('fb_error_moment', [wanted, given, x, this.sums], [{ bytes }], params)
    this.sums = new Float64Array(sums)
  }

  /** [outputs, columns]: the mean over all rows. */
  mean(): Float64Array {
    return this.sums.map((sum) => sum / Math.max(1, this.rows))
  }
}
