// The start: one scale a group of rows, and codebooks by k-means of what is left, one after another. The statistics play no part in it.
import { type Problem, type State, sizesOf } from './problem.ts'

const { fround } = Math

/** Norms of the groups of rows, as the reference: a zero row keeps a scale that can be divided by. */
export function initialScales({ w, columns, scheme }: Problem): Float32Array {
  const run = columns * scheme.group.out
  const scale = new Float32Array(w.length / run)
  for (let r = 0; r < scale.length; r++) {
    let sum = 0
    for (let i = r * run; i < (r + 1) * run; i++) sum += w[i] * w[i]
    scale[r] = fround(fround(Math.sqrt(sum)) + fround(1e-9))
  }
  return scale
}

/** Groups divided by their scale: [groups, D]. */
export function normalisedGroups(problem: Problem, scale: Float32Array): Float32Array {
  const { outs, ins, size } = sizesOf(problem)
  const { w, columns, scheme } = problem
  const { group } = scheme
  const data = new Float32Array(w.length)
  for (let r = 0; r < outs; r++)
    for (let j = 0; j < ins; j++)
      for (let within = 0; within < size; within++) {
        const a = Math.floor(within / group.in)
        const at = (r * group.out + a) * columns + j * group.in + (within % group.in)
        data[(r * ins + j) * size + within] = fround(w[at] / scale[r])
      }
  return data
}

/** Half the squared norm of each entry. */
function halfNorms(centroids: Float32Array, size: number): Float32Array {
  const out = new Float32Array(centroids.length / size)
  for (let s = 0; s < out.length; s++) {
    let sum = 0
    for (let d = 0; d < size; d++) sum = fround(sum + fround(centroids[s * size + d] * centroids[s * size + d]))
    out[s] = fround(0.5 * sum)
  }
  return out
}

/** Nearest centroid of point n: the first of the largest x c - |c|^2 / 2. */
function nearest(data: Float32Array, n: number, centroids: Float32Array, half: Float32Array, size: number): number {
  let best = -Infinity
  let code = 0
  for (let s = 0; s < half.length; s++) {
    let dot = 0
    for (let d = 0; d < size; d++) dot = fround(dot + fround(centroids[s * size + d] * data[n * size + d]))
    const score = fround(dot - half[s])
    if (score > best) {
      best = score
      code = s
    }
  }
  return code
}

/** k-means on the `points` of data, which begin at the first S of them. An empty cluster keeps its centroid. */
export function kMeans(
  data: Float32Array,
  size: number,
  entries: number,
  points: Int32Array,
  iterations: number,
): Float32Array {
  const centroids = new Float32Array(entries * size)
  for (let s = 0; s < entries; s++) for (let d = 0; d < size; d++) centroids[s * size + d] = data[points[s] * size + d]
  for (let iteration = 0; iteration < iterations; iteration++) {
    const half = halfNorms(centroids, size)
    const sums = new Float64Array(entries * size)
    const counts = new Int32Array(entries)
    for (const n of points) {
      const s = nearest(data, n, centroids, half, size)
      counts[s]++
      for (let d = 0; d < size; d++) sums[s * size + d] += data[n * size + d]
    }
    for (let i = 0; i < sums.length; i++) {
      const count = counts[Math.floor(i / size)]
      if (count > 0) centroids[i] = sums[i] / count
    }
  }
  return centroids
}

/** Code of every point. */
export function assign(data: Float32Array, size: number, centroids: Float32Array): Uint16Array {
  const half = halfNorms(centroids, size)
  return Uint16Array.from({ length: data.length / size }, (_, n) => nearest(data, n, centroids, half, size))
}

/** Scales, codebooks and codes to begin with. `points`: see trainingPoints. */
export function start(problem: Problem, points: Int32Array, iterations: number): State {
  const { outs, ins, size, entries } = sizesOf(problem)
  const { codebooks: count } = problem.scheme
  const scale = initialScales(problem)
  const data = normalisedGroups(problem, scale)
  const codebooks = new Float32Array(count * entries * size)
  const codes = new Uint16Array(outs * ins * count)
  const perBook = points.length / count
  for (let c = 0; c < count; c++) {
    const own = points.subarray(c * perBook, (c + 1) * perBook)
    const centroids = kMeans(data, size, entries, own, iterations)
    codebooks.set(centroids, c * entries * size)
    assign(data, size, centroids).forEach((code, n) => {
      codes[n * count + c] = code
      for (let d = 0; d < size; d++) data[n * size + d] = fround(data[n * size + d] - centroids[code * size + d])
    })
  }
  return { codes, codebooks, scale }
}
