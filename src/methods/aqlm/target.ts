// What a linear's codes approximate: not its weight, but the weight that gives the outputs of the original model on the inputs which really
// come, where all that is quantised before it has already changed them. A least squares problem with a ridge around the weight:
//
//   W + D (H + lambda I)^-1,  D = mean (y - W x) x^T,  H = mean x x^T
import { OutOfMemoryError } from '../../core/errors.ts'
import type { QuantizerKernels } from '../../core/kernels.ts'

/** The ridge, as a part of the mean of H's diagonal. */
const RIDGE = 0.01

export interface TargetProblem {
  readonly rows: number
  readonly columns: number
  /** [rows, columns] */
  readonly w: Float32Array
  /** What the outputs lack, by inputs: [rows, columns]. */
  readonly d: Float64Array
  /** [columns, columns] */
  readonly h: Float32Array
}

function ridge({ columns, h }: TargetProblem): number {
  let trace = 0
  for (let k = 0; k < columns; k++) trace += h[k * (columns + 1)]
  return (RIDGE * trace) / columns
}

/** Upper triangular U with U^T U = H + lambda I. */
function factorOf({ columns, h }: TargetProblem, lambda: number): Float64Array {
  const u = Float64Array.from(h)
  for (let k = 0; k < columns; k++) {
    u[k * (columns + 1)] += lambda
    const row = k * columns
    for (let p = 0; p < k; p++) for (let i = k; i < columns; i++) u[row + i] -= u[p * columns + k] * u[p * columns + i]
    const pivot = Math.sqrt(u[row + k])
    for (let i = k; i < columns; i++) u[row + i] /= pivot
  }
  return u
}

/** The definition of fb_aqlm_target. */
export function targetOracle(problem: TargetProblem, lambda: number): Float32Array {
  const { rows, columns, w, d } = problem
  const u = factorOf(problem, lambda)
  const out = new Float32Array(w.length)
  for (let n = 0; n < rows; n++) {
    const x = d.slice(n * columns, (n + 1) * columns)
    for (let i = 0; i < columns; i++) {
      for (let p = 0; p < i; p++) x[i] -= u[p * columns + i] * x[p]
      x[i] /= u[i * (columns + 1)]
    }
    for (let i = columns - 1; i >= 0; i--) {
      for (let p = i + 1; p < columns; p++) x[i] -= u[i * columns + p] * x[p]
      x[i] /= u[i * (columns + 1)]
    }
    for (let k = 0; k < columns; k++) out[n * columns + k] = w[n * columns + k] + x[k]
  }
  return out
}

/** The weight that is approximated; the weight itself where all inputs are zero. */
export async function targetWeight(
  problem: TargetProblem,
  kernels: QuantizerKernels | undefined,
): Promise<Float32Array> {
  const lambda = ridge(problem)
  if (!(lambda > 0)) return problem.w
  if (!kernels) return targetOracle(problem, lambda)
  const { rows, columns, w, d, h } = problem
  const outputs = [{ bytes: w.byteLength }, { bytes: 8 * columns * columns }, { bytes: 32 }]
  const [out, , state] = await kernels.run('fb_aqlm_target', [w, d, h], outputs, [rows, columns, lambda])
  if (new Float64Array(state)[3] !== 0)
    throw new OutOfMemoryError(`Cannot quantise [${rows}, ${columns}] weights: no memory to solve for their target`, {
      rows,
      columns,
    })
  return new Float32Array(out)
}
