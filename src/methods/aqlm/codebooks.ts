// For given codes the error is a quadratic in the codebooks: conjugate gradients with the diagonal as preconditioner replace the hundreds
// of small Adam steps of the reference. For given codebooks and codes each scale has a closed form.
import { eachOfGroup, energy, type Problem, residual, type State, sizesOf, timesH, unscaled } from './problem.ts'

const { fround } = Math

/** Steps of conjugate gradients an epoch: beyond a dozen the codes, not the codebooks, hold the error up. */
export const CG_STEPS = 12
/**
 * Part of the first r.z below which what is left is rounding. Adding to one codebook what another one loses changes nothing, so steps along
 * that rounding have next to no curvature and would lead far away.
 */
const CG_SOLVED = 1e-10

/** Most blocks of rows, and the least rows of a block, that sums over rows are made of. */
const MOST_BLOCKS = 64
const LEAST_ROWS = 32

/** Row groups of a block: sums are taken block by block, so that they do not depend on who computes them. */
export function groupsOfBlock({ rows, scheme }: Problem): number {
  const blocks = Math.min(MOST_BLOCKS, Math.ceil(rows / LEAST_ROWS))
  return Math.ceil(rows / scheme.group.out / blocks)
}

/** Sums value(r, index in the weight, index within the group) into the entry of each codebook that group (r, j) uses. */
function scatter(
  problem: Problem,
  codes: Uint16Array,
  value: (r: number, at: number, within: number) => number,
): Float32Array {
  const { outs, ins, size, entries } = sizesOf(problem)
  const { codebooks: count } = problem.scheme
  const total = new Float32Array(count * entries * size)
  const perBlock = groupsOfBlock(problem)
  for (let from = 0; from < outs; from += perBlock) {
    const part = new Float32Array(total.length)
    for (let r = from; r < Math.min(outs, from + perBlock); r++)
      for (let j = 0; j < ins; j++)
        for (let c = 0; c < count; c++) {
          const entry = (c * entries + codes[(r * ins + j) * count + c]) * size
          eachOfGroup(problem, r, j, (at, within) => {
            part[entry + within] = fround(part[entry + within] + value(r, at, within))
          })
        }
    for (let i = 0; i < total.length; i++) total[i] = fround(total[i] + part[i])
  }
  return total
}

/** Minus half the gradient of the error by the codebooks: scatter(scale * (R H)). `rh`: residual times H. */
export function codebookGradient(problem: Problem, { codes, scale }: State, rh: Float32Array): Float32Array {
  return scatter(problem, codes, (r, at) => fround(scale[r] * rh[at]))
}

/** The diagonal of the quadratic, but for what entries of one codebook share: scale^2 * H_ii summed over the groups that use an entry. */
function preconditioner(problem: Problem, { codes, scale }: State): Float32Array {
  const { columns, h } = problem
  return scatter(problem, codes, (r, at) => {
    const i = at % columns
    return fround(fround(scale[r] * scale[r]) * h[i * columns + i])
  })
}

const dot = (a: Float32Array, b: Float32Array) => {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i]
  return sum
}

/** Entries that nothing holds in place stay where they are. */
const precondition = (r: Float32Array, diagonal: Float32Array) =>
  r.map((value, i) => (diagonal[i] > 0 ? fround(value / diagonal[i]) : 0))

/** Improves the codebooks in place; returns the error before, from which the gradient is taken anyway. */
export function improveCodebooks(problem: Problem, state: State, steps = CG_STEPS): number {
  const x = residual(problem, state)
  const xh = timesH(problem, x)
  const before = energy(problem, x, xh)
  const { codes, codebooks, scale } = state
  const run = problem.columns * problem.scheme.group.out
  const r = codebookGradient(problem, state, xh)
  const diagonal = preconditioner(problem, state)
  let z = precondition(r, diagonal)
  const p = z.slice()
  let rz = dot(r, z)
  const solved = CG_SOLVED * rz
  for (let step = 0; step < steps && rz > solved; step++) {
    const v = unscaled(problem, codes, p).map((value, i) => fround(scale[Math.floor(i / run)] * value))
    const vh = timesH(problem, v)
    const q = scatter(problem, codes, (group, at) => fround(scale[group] * vh[at]))
    const curvature = dot(p, q)
    if (!(curvature > 0)) break
    const alpha = fround(rz / curvature)
    for (let i = 0; i < p.length; i++) {
      codebooks[i] = fround(codebooks[i] + fround(alpha * p[i]))
      r[i] = fround(r[i] - fround(alpha * q[i]))
    }
    z = precondition(r, diagonal)
    const next = dot(r, z)
    const beta = fround(next / rz)
    for (let i = 0; i < p.length; i++) p[i] = fround(z[i] + fround(beta * p[i]))
    rz = next
  }
  return before
}

/** Sets each scale to its best value; a group of rows whose sums vanish keeps its own. */
export function improveScales(problem: Problem, { codes, codebooks, scale }: State): void {
  const u = unscaled(problem, codes, codebooks)
  const uh = timesH(problem, u)
  const { w, columns, scheme } = problem
  for (let r = 0; r < scale.length; r++) {
    let above = 0
    let below = 0
    for (let a = 0; a < scheme.group.out; a++) {
      const row = (r * scheme.group.out + a) * columns
      for (let k = row; k < row + columns; k++) {
        above += uh[k] * w[k]
        below += uh[k] * u[k]
      }
    }
    if (below > 0) scale[r] = above / below
  }
}
