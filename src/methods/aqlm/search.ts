// Beam search for codes. Rows are independent. Visiting group j, the gradient of its columns is computed once and kept current while
// the codebooks are tried in turn; hypotheses carry their own residuals.
//
//   E(c) = E - 2 (score(c) - score(old)),  score(v) = scale <v, Gw> - scale^2 / 2 * v Hss v^T,  Gw = G with `old` taken out
import { type Problem, residual, type State, sizesOf } from './problem.ts'

const { fround } = Math

/** v Hss v^T / 2 of every entry of every codebook at group j of columns: [codebooks * S]. */
export function halfCurvatures(problem: Problem, codebooks: Float32Array, j: number): Float32Array {
  const { columns, h, scheme } = problem
  const { in: g, out } = scheme.group
  const count = codebooks.length / (g * out)
  const half = new Float32Array(count)
  for (let e = 0; e < count; e++) {
    let sum = 0
    for (let a = 0; a < out; a++) {
      const v = e * g * out + a * g
      for (let i = 0; i < g; i++) {
        let product = 0
        for (let l = 0; l < g; l++)
          product = fround(product + fround(codebooks[v + l] * h[(j * g + l) * columns + j * g + i]))
        sum = fround(sum + fround(codebooks[v + i] * product))
      }
    }
    half[e] = fround(0.5 * sum)
  }
  return half
}

interface Hypothesis {
  /** Error relative to the start. */
  error: number
  readonly codes: Uint16Array
  /** Residual of the row group, [out, columns]. */
  readonly residual: Float32Array
  /** residual * H at the columns of the group that is visited, [out, in]. */
  gradient: Float32Array
}

const clone = ({ error, codes, residual, gradient }: Hypothesis): Hypothesis => ({
  error,
  codes: codes.slice(),
  residual: residual.slice(),
  gradient: gradient.slice(),
})

interface Visit {
  readonly problem: Problem
  readonly codebooks: Float32Array
  readonly scale: number
  /** Group of columns, its half curvatures, and the codebook. */
  readonly j: number
  readonly half: Float32Array
  readonly book: number
}

/** residual * H at the columns of group j. */
function gradientOf({ columns, h, scheme }: Problem, x: Float32Array, j: number): Float32Array {
  const { in: g, out } = scheme.group
  const gradient = new Float32Array(out * g)
  for (let a = 0; a < out; a++)
    for (let i = 0; i < g; i++) {
      let sum = 0
      for (let k = 0; k < columns; k++) sum = fround(sum + fround(x[a * columns + k] * h[(j * g + i) * columns + k]))
      gradient[a * g + i] = sum
    }
  return gradient
}

/** v Hss for one row of an entry, at column i of the group. */
function timesBlock({ columns, h, scheme }: Problem, v: (l: number) => number, j: number, i: number): number {
  const { in: g } = scheme.group
  let sum = 0
  for (let l = 0; l < g; l++) sum = fround(sum + fround(v(l) * h[(j * g + l) * columns + j * g + i]))
  return sum
}

/** Score of every entry of the visited codebook for one hypothesis. */
function scores(
  { problem, codebooks, scale, j, half, book }: Visit,
  { gradient }: Hypothesis,
  old: number,
): Float32Array {
  const { size, entries } = sizesOf(problem)
  const { in: g } = problem.scheme.group
  const first = book * entries
  const x = new Float32Array(size)
  for (let d = 0; d < size; d++) {
    const row = (first + old) * size + d - (d % g)
    const inner = timesBlock(problem, (l) => codebooks[row + l], j, d % g)
    x[d] = fround(scale * fround(gradient[d] + fround(scale * inner)))
  }
  const squared = fround(scale * scale)
  const out = new Float32Array(entries)
  for (let e = 0; e < entries; e++) {
    let dot = 0
    for (let d = 0; d < size; d++) dot = fround(dot + fround(codebooks[(first + e) * size + d] * x[d]))
    out[e] = fround(dot - fround(squared * half[first + e]))
  }
  return out
}

/** Errors that every entry would give at a visit, relative to the present one: [S]. What the reference calls candidate losses. */
export function candidateErrors(problem: Problem, state: State, r: number, j: number, book: number): Float32Array {
  const half = halfCurvatures(problem, state.codebooks, j)
  const visit = { problem, codebooks: state.codebooks, scale: state.scale[r], j, half, book }
  const hypothesis = startOf(problem, state, residual(problem, state), r)
  hypothesis.gradient = gradientOf(problem, hypothesis.residual, j)
  const old = hypothesis.codes[j * problem.scheme.codebooks + book]
  const all = scores(visit, hypothesis, old)
  return all.map((score) => fround(-2 * fround(score - all[old])))
}

function startOf({ scheme, columns }: Problem, state: State, x: Float32Array, r: number): Hypothesis {
  const run = scheme.group.out * columns
  const codes = (columns / scheme.group.in) * scheme.codebooks
  return {
    error: 0,
    codes: state.codes.slice(r * codes, (r + 1) * codes),
    residual: x.slice(r * run, (r + 1) * run),
    gradient: new Float32Array(0),
  }
}

interface Child {
  readonly parent: Hypothesis
  readonly code: number
  readonly error: number
}

/** The best `beam` entries of one hypothesis, best first; of equals the old one, then the first. */
function childrenOf(parent: Hypothesis, all: Float32Array, old: number, beam: number): Child[] {
  const order = Array.from(all.keys()).sort((a, b) => all[b] - all[a] || Number(b === old) - Number(a === old) || a - b)
  return order.slice(0, beam).map((code) => ({
    parent,
    code,
    error: fround(parent.error - fround(2 * fround(all[code] - all[old]))),
  }))
}

function expand(visit: Visit, beams: readonly Hypothesis[], beam: number): Hypothesis[] {
  const { problem, book, j } = visit
  const at = j * problem.scheme.codebooks + book
  const children = beams.flatMap((parent) => {
    const old = parent.codes[at]
    return childrenOf(parent, scores(visit, parent, old), old, beam)
  })
  // Stable: of equal errors the earlier hypothesis, then its better entry.
  children.sort((a, b) => a.error - b.error)
  return children.slice(0, beam).map(({ parent, code, error }) => {
    const child = clone(parent)
    child.error = error
    replace(visit, child, at, code)
    return child
  })
}

/** Puts `code` in place: code, residual and gradient. */
function replace({ problem, codebooks, scale, j, book }: Visit, h: Hypothesis, at: number, code: number): void {
  const { size, entries } = sizesOf(problem)
  const { in: g } = problem.scheme.group
  const from = (book * entries + h.codes[at]) * size
  const to = (book * entries + code) * size
  const change = new Float32Array(size)
  for (let d = 0; d < size; d++) change[d] = fround(codebooks[to + d] - codebooks[from + d])
  const gradient = h.gradient.slice()
  for (let d = 0; d < size; d++) {
    const row = d - (d % g)
    const k = Math.floor(d / g) * problem.columns + j * g + (d % g)
    h.residual[k] = fround(h.residual[k] - fround(scale * change[d]))
    const inner = timesBlock(problem, (l) => change[row + l], j, d % g)
    gradient[d] = fround(gradient[d] - fround(scale * inner))
  }
  h.gradient = gradient
  h.codes[at] = code
}

/** One pass over all groups: improves `state.codes` in place. Groups of columns are visited in order, codebooks in order. */
export function searchCodes(problem: Problem, state: State, beam: number, visits = naturalOrder(problem)): void {
  const { outs, ins } = sizesOf(problem)
  const half = Array.from({ length: ins }, (_, j) => halfCurvatures(problem, state.codebooks, j))
  const x = residual(problem, state)
  for (let r = 0; r < outs; r++) {
    const scale = state.scale[r]
    if (scale === 0) continue
    let beams = [startOf(problem, state, x, r)]
    let visited = -1
    for (const [j, book] of visits) {
      if (j !== visited) for (const b of beams) b.gradient = gradientOf(problem, b.residual, j)
      visited = j
      beams = expand({ problem, codebooks: state.codebooks, scale, j, half: half[j], book }, beams, beam)
    }
    state.codes.set(beams[0].codes, r * beams[0].codes.length)
  }
}

function naturalOrder(problem: Problem): [j: number, book: number][] {
  const { ins } = sizesOf(problem)
  return Array.from({ length: ins * problem.scheme.codebooks }, (_, v) => [
    Math.floor(v / problem.scheme.codebooks),
    v % problem.scheme.codebooks,
  ])
}
