// What a linear's codes approximate: not its weight, but the weight that gives the outputs of the original model on the inputs which really
// come, where all that is quantised before it has already changed them. A least squares problem with a ridge around the weight:
//
//   W + alpha D (H + lambda I)^-1,  D = mean (y - W x) x^T,  H = mean x x^T
//
// Few data would be learned by heart: each half of them says which lambda and which part alpha of the change serve the other half best.
import { OutOfMemoryError } from '../../core/errors.ts'
import type { QuantizerKernels } from '../../core/kernels.ts'

/** Ridges that are tried, as parts of the mean of H's diagonal. */
const RIDGES = [0.01, 0.1, 1]

/** Moments of one part of the calibration rows. */
export interface TargetData {
  readonly count: number
  /** What the outputs lack, by inputs: [rows, columns]. */
  readonly d: Float64Array
  /** Second moment of the inputs: [columns, columns]. */
  readonly h: Float32Array
}

export interface TargetProblem {
  readonly rows: number
  readonly columns: number
  /** [rows, columns] */
  readonly w: Float32Array
  readonly halves: readonly [TargetData, TargetData]
}

/** How W is changed, and by which data; `judge`: others that say what the change is worth. */
export interface Change {
  readonly data: TargetData
  readonly judge?: TargetData
  readonly lambda: number
  readonly alpha: number
}

export interface Changed {
  /** [rows, columns] */
  readonly target: Float32Array
  /** Of each row on the judging data: change D', and change H' change. */
  readonly judged: Float64Array
}

type Shape = Pick<TargetProblem, 'rows' | 'columns' | 'w'>

/** Upper triangular U with U^T U = H + lambda I. */
function factorOf(columns: number, h: Float32Array, lambda: number): Float64Array {
  const u = Float64Array.from(h)
  for (let k = 0; k < columns; k++) u[k * (columns + 1)] += lambda
  for (let k = 0; k < columns; k++) {
    const row = k * columns
    for (let p = 0; p < k; p++) for (let i = k; i < columns; i++) u[row + i] -= u[p * columns + k] * u[p * columns + i]
    const pivot = Math.sqrt(u[row + k])
    for (let i = k; i < columns; i++) u[row + i] /= pivot
  }
  return u
}

function judgeRow(delta: Float64Array, d: Float64Array, h: Float32Array): [linear: number, square: number] {
  const columns = delta.length
  let [linear, square] = [0, 0]
  for (let k = 0; k < columns; k++) {
    let sum = 0
    for (let p = 0; p < columns; p++) sum += h[k * columns + p] * delta[p]
    square += sum * delta[k]
    linear += delta[k] * d[k]
  }
  return [linear, square]
}

/** The definition of fb_aqlm_target. */
function changeOracle({ rows, columns, w }: Shape, { data, judge, lambda, alpha }: Change): Changed {
  const u = factorOf(columns, data.h, lambda)
  const target = new Float32Array(w.length)
  const judged = new Float64Array(2 * rows)
  for (let n = 0; n < rows; n++) {
    const x = data.d.slice(n * columns, (n + 1) * columns)
    for (let i = 0; i < columns; i++) {
      for (let p = 0; p < i; p++) x[i] -= u[p * columns + i] * x[p]
      x[i] /= u[i * (columns + 1)]
    }
    for (let i = columns - 1; i >= 0; i--) {
      for (let p = i + 1; p < columns; p++) x[i] -= u[i * columns + p] * x[p]
      x[i] /= u[i * (columns + 1)]
    }
    for (let k = 0; k < columns; k++) target[n * columns + k] = w[n * columns + k] + alpha * x[k]
    if (judge) judged.set(judgeRow(x, judge.d.subarray(n * columns, (n + 1) * columns), judge.h), 2 * n)
  }
  return { target, judged }
}

/** Changes a weight, by the compiled kernel where there is one. */
export async function changed(shape: Shape, change: Change, kernels: QuantizerKernels | undefined): Promise<Changed> {
  if (!kernels) return changeOracle(shape, change)
  const { rows, columns, w } = shape
  const { data, judge, lambda, alpha } = change
  const others = judge ?? { d: new Float64Array(0), h: new Float32Array(0) }
  const outputs = [{ bytes: w.byteLength }, { bytes: 16 * rows }, { bytes: 8 * columns * columns }, { bytes: 32 }]
  const params = [rows, columns, lambda, alpha, Number(judge !== undefined)]
  const inputs = [w, data.d, data.h, others.d, others.h]
  const [target, judged, , state] = await kernels.run('fb_aqlm_target', inputs, outputs, params)
  if (new Float64Array(state)[3] !== 0)
    throw new OutOfMemoryError(`Cannot quantise [${rows}, ${columns}] weights: no memory to solve for their target`, {
      rows,
      columns,
    })
  return { target: new Float32Array(target), judged: new Float64Array(judged) }
}

/** Both halves as one. */
export function together([a, b]: readonly [TargetData, TargetData]): TargetData {
  const count = a.count + b.count
  const mean = (x: number, y: number) => (x * a.count + y * b.count) / count
  return { count, d: a.d.map((x, i) => mean(x, b.d[i])), h: a.h.map((x, i) => mean(x, b.h[i])) }
}

function meanDiagonal(columns: number, h: Float32Array): number {
  let trace = 0
  for (let k = 0; k < columns; k++) trace += h[k * (columns + 1)]
  return trace / columns
}

/** The ridge and the part of the change that are best for data which had no say in it; alpha is 0 where none is any good. */
async function bestChange(
  problem: TargetProblem,
  unit: number,
  kernels: QuantizerKernels | undefined,
): Promise<Pick<Change, 'lambda' | 'alpha'>> {
  const [a, b] = problem.halves
  let best = { lambda: 0, alpha: 0, gain: 0 }
  for (const ridge of RIDGES) {
    const lambda = ridge * unit
    let [linear, square] = [0, 0]
    for (const [data, judge] of [
      [a, b],
      [b, a],
    ]) {
      const { judged } = await changed(problem, { data, judge, lambda, alpha: 1 }, kernels)
      for (let n = 0; n < judged.length; n += 2) {
        linear += judged[n]
        square += judged[n + 1]
      }
    }
    const alpha = square > 0 ? Math.max(0, Math.min(1, linear / square)) : 0
    const gain = 2 * alpha * linear - alpha * alpha * square
    if (gain > best.gain) best = { lambda, alpha, gain }
  }
  return best
}

/** The weight that is approximated; the weight itself where the inputs are zero or too few to tell. `all`: the halves as one. */
export async function targetWeight(
  problem: TargetProblem,
  kernels: QuantizerKernels | undefined,
  all: TargetData = together(problem.halves),
): Promise<Float32Array> {
  const { halves, columns, w } = problem
  const unit = meanDiagonal(columns, all.h)
  if (halves.some(({ count }) => count === 0) || !(unit > 0)) return w
  const { lambda, alpha } = await bestChange(problem, unit, kernels)
  return alpha > 0 ? (await changed(problem, { data: all, lambda, alpha }, kernels)).target : w
}
