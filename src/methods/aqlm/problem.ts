// What the quantiser works on: one linear, its statistics, and the state that the steps improve in turn.
import type { AdditiveScheme } from '../../weights/scheme.ts'

/** Columns are `columns`; groups of a row `columns / in`; D = out * in values in a group; S = 2^bits entries in a codebook. */
export interface Problem {
  readonly scheme: AdditiveScheme
  readonly rows: number
  readonly columns: number
  /** [rows, columns] */
  readonly w: Float32Array
  /** Second moment of the inputs, [columns, columns], symmetric to the bit. */
  readonly h: Float32Array
}

export interface State {
  /** [rows / out, columns / in, codebooks] */
  readonly codes: Uint16Array
  /** [codebooks, S, D] */
  readonly codebooks: Float32Array
  /** [rows / out] */
  readonly scale: Float32Array
}

export interface Sizes {
  /** Groups of rows, and groups of columns. */
  readonly outs: number
  readonly ins: number
  /** Values of a group. */
  readonly size: number
  /** Entries of a codebook. */
  readonly entries: number
}

export function sizesOf({ scheme, rows, columns }: Problem): Sizes {
  const { group, bits } = scheme
  return { outs: rows / group.out, ins: columns / group.in, size: group.out * group.in, entries: 2 ** bits }
}

const { fround } = Math

/** out[n, c] = sum over k of x[n, k] * h[k, c], in float32, k ascending. */
export function timesH({ columns, h }: Problem, x: Float32Array): Float32Array {
  const rows = x.length / columns
  const out = new Float32Array(x.length)
  for (let n = 0; n < rows; n++) {
    const row = out.subarray(n * columns, (n + 1) * columns)
    for (let k = 0; k < columns; k++) {
      const value = x[n * columns + k]
      const at = k * columns
      for (let c = 0; c < columns; c++) row[c] = fround(row[c] + fround(value * h[at + c]))
    }
  }
  return out
}

/** Calls visit(index in the weight, index in a codebook's entry) for the D values of group (r, j). */
export function eachOfGroup(problem: Problem, r: number, j: number, visit: (at: number, within: number) => void): void {
  const { group } = problem.scheme
  for (let a = 0; a < group.out; a++)
    for (let i = 0; i < group.in; i++) visit((r * group.out + a) * problem.columns + j * group.in + i, a * group.in + i)
}

/** The weight without its scales: sums of entries of `codebooks`. */
export function unscaled(problem: Problem, codes: Uint16Array, codebooks: Float32Array): Float32Array {
  const { outs, ins, size, entries } = sizesOf(problem)
  const { codebooks: count } = problem.scheme
  const out = new Float32Array(problem.rows * problem.columns)
  for (let r = 0; r < outs; r++)
    for (let j = 0; j < ins; j++)
      eachOfGroup(problem, r, j, (at, within) => {
        let sum = 0
        for (let c = 0; c < count; c++)
          sum = fround(sum + codebooks[(c * entries + codes[(r * ins + j) * count + c]) * size + within])
        out[at] = sum
      })
  return out
}

/** w - scale * unscaled. */
export function residual(problem: Problem, { codes, codebooks, scale }: State): Float32Array {
  const { w, columns, scheme } = problem
  const out = unscaled(problem, codes, codebooks)
  const run = columns * scheme.group.out
  for (let i = 0; i < out.length; i++) out[i] = fround(w[i] - fround(scale[Math.floor(i / run)] * out[i]))
  return out
}

/** sum over rows of x h x^T, given x h; float64, row by row. */
export function energy({ rows, columns }: Problem, x: Float32Array, xh: Float32Array): number {
  let total = 0
  for (let n = 0; n < rows; n++) {
    let sum = 0
    for (let k = n * columns; k < (n + 1) * columns; k++) sum += x[k] * xh[k]
    total += sum
  }
  return total
}
