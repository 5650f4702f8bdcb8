// IQ1_S and IQ1_M, as ggml's quantize_row_iq1_*_impl: values -1, 0 and 1 times a scale, all shifted by +-1/8. The sorted values of a group
// are cut into three runs; every pair of cuts and every shift is tried. Then octets that are no row of the grid become the nearest row.
import { f16Bits } from '../../core/half.ts'
import { gridOf } from '../../weights/superblock/grids.ts'
import { gridIndex } from './grid-index.ts'
import { clamp, nearestInt } from './rounding.ts'

const { fround, abs, sqrt } = Math
const SIZE = 256
const LARGEST_FLOAT = 2 ** 128 - 2 ** 104
/** What the levels 0, 1, 2 stand for, shifted up and down. */
const UP = [-0.875, 0.125, 1.125] as const
const DOWN = [-1.125, -0.125, 0.875] as const
type Values = typeof UP | typeof DOWN

/** A group cut at the sorted values number `from` and `to`; shifts: one a value run of the group (IQ1_S: 1, IQ1_M: 2). */
interface Cut {
  readonly from: number
  readonly to: number
  readonly scale: number
  readonly shifts: readonly Values[]
}

/** A fitted group: the rows of its octets and their shifts. */
interface Group {
  readonly scale: number
  readonly rows: readonly number[]
  readonly shifts: readonly Values[]
}

const opposite = (values: Values): Values => (values === UP ? DOWN : UP)

/** `importance` is compulsory. */
export function quantizeIq1s(x: Float32Array, block: Uint8Array, importance?: Float32Array): void {
  const weights = weigh(x, importance)
  const groups: Group[] = []
  for (let at = 0; at < SIZE; at += 32)
    groups.push(fitGroup(x.subarray(at, at + 32), weights.subarray(at, at + 32), fround(1e-12), bestCut))
  const max = largestScale(groups)
  const d = fround(max / 15)
  if (max !== 0) putHalf(block, f16Bits(fround(d * 1.125)))
  groups.forEach(({ scale, rows, shifts }, g) => {
    let high = 0
    rows.forEach((row, k) => {
      block[2 + 4 * g + k] = row & 255
      high |= (row >> 8) << (3 * k)
    })
    if (max !== 0) high |= (scaleCode(scale, d) | (shifts[0] === DOWN ? 8 : 0)) << 12
    block[34 + 2 * g] = high & 255
    block[35 + 2 * g] = high >> 8
  })
}

export function quantizeIq1m(x: Float32Array, block: Uint8Array, importance?: Float32Array): void {
  const weights = weigh(x, importance)
  const groups: Group[] = []
  for (let at = 0; at < SIZE; at += 16)
    groups.push(fitGroup(x.subarray(at, at + 16), weights.subarray(at, at + 16), fround(1e-7), bestHalvesCut))
  const max = largestScale(groups)
  groups.forEach(({ rows, shifts }, g) => {
    rows.forEach((row, k) => {
      const down = max !== 0 && shifts[k] === DOWN ? 8 : 0
      block[2 * g + k] = row & 255
      block[32 + g] |= ((row >> 8) | down) << (4 * k)
    })
  })
  if (max === 0) return
  const d = fround(max / 15)
  const codes = groups.map(({ scale }) => scaleCode(scale, d))
  const bits = f16Bits(fround(refit(x, weights, groups, codes, d) * fround(1.1125)))
  for (let i = 0; i < 4; i++) {
    let word = ((bits >> (4 * i)) & 15) << 12
    for (let k = 0; k < 4; k++) word |= codes[4 * i + k] << (3 * k)
    block[48 + 2 * i] = word & 255
    block[49 + 2 * i] = word >> 8
  }
}

/** importance * sqrt(sigma2 + x^2), or x^2. */
function weigh(x: Float32Array, importance?: Float32Array): Float32Array {
  const squares = x.map((v) => v * v)
  if (!importance) return squares
  const sum = squares.reduce((a, b) => fround(a + b), 0)
  const sigma2 = fround(fround(2 * sum) / SIZE)
  return squares.map((x2, i) => importance[i] * fround(sqrt(fround(sigma2 + x2))))
}

/** NaN where a group has none: such a block is refused by its scale. */
function largestScale(groups: readonly Group[]): number {
  return Math.max(...groups.map(({ scale }) => scale))
}

function scaleCode(scale: number, d: number): number {
  return clamp(nearestInt(0.5 * fround(fround(fround(1 / d) * scale) - 1)), 0, 7)
}

function putHalf(block: Uint8Array, bits: number): void {
  block[0] = bits & 255
  block[1] = bits >> 8
}

type CutSearch = (x: Float32Array, weights: Float32Array, order: readonly number[]) => Cut | undefined

function fitGroup(x: Float32Array, weights: Float32Array, epsilon: number, search: CutSearch): Group {
  const none = { scale: 0, rows: new Array<number>(x.length / 8).fill(0), shifts: [UP, UP] }
  if (x.reduce((max, v) => Math.max(max, abs(v)), 0) < epsilon) return none
  const order = Array.from(x.keys()).sort((a, b) => x[a] - x[b]) // equal values stay in order
  const found = search(x, weights, order)
  if (!found) return none
  const levels = new Uint8Array(x.length)
  order.forEach((i, rank) => {
    levels[i] = rank < found.from ? 0 : rank < found.to ? 1 : 2
  })
  if (found.scale >= 0) return toGrid(x, weights, levels, found.scale, found.shifts)
  const mirrored = levels.map((level) => 2 - level)
  return toGrid(x, weights, mirrored, -found.scale, found.shifts.map(opposite))
}

/** Prefix sums of weight * x and weight in sorted order, over the members that `belongs` takes. */
function prefixSums(
  x: Float32Array,
  weights: Float32Array,
  order: readonly number[],
  belongs: (i: number) => boolean,
): { wx: Float32Array; w: Float32Array } {
  const wx = new Float32Array(order.length + 1)
  const w = new Float32Array(order.length + 1)
  order.forEach((i, rank) => {
    wx[rank + 1] = belongs(i) ? wx[rank] + fround(weights[i] * x[i]) : wx[rank]
    w[rank + 1] = belongs(i) ? w[rank] + weights[i] : w[rank]
  })
  return { wx, w }
}

/** Keeps the first of the best cuts. */
class BestCut {
  cut: Cut | undefined
  private score = -LARGEST_FLOAT

  offer(xq: number, q2: number, from: number, to: number, shifts: readonly Values[]): void {
    if (!(q2 > 0 && fround(xq * xq) > fround(this.score * q2))) return
    const scale = fround(xq / q2)
    this.score = fround(scale * xq)
    this.cut = { from, to, scale, shifts }
  }
}

const ONE_SHIFT = [UP, DOWN].map((values) => ({ values, shifts: [values, values] }))

/** IQ1_S: one shift for the whole group. */
function bestCut(x: Float32Array, weights: Float32Array, order: readonly number[]): Cut | undefined {
  const n = order.length
  const { wx, w } = prefixSums(x, weights, order, () => true)
  const best = new BestCut()
  for (let from = 0; from <= n; from++)
    for (let to = from; to <= n; to++)
      for (const { values, shifts } of ONE_SHIFT) {
        const [a, b, c] = values
        const low = fround(wx[from] * a)
        const middle = fround(fround(wx[to] - wx[from]) * b)
        const high = fround(fround(wx[n] - wx[to]) * c)
        const low2 = fround(fround(w[from] * a) * a)
        const middle2 = fround(fround(fround(w[to] - w[from]) * b) * b)
        const high2 = fround(fround(fround(w[n] - w[to]) * c) * c)
        best.offer(fround(fround(low + middle) + high), fround(fround(low2 + middle2) + high2), from, to, shifts)
      }
  return best.cut
}

const TWO_SHIFTS = [
  [UP, UP],
  [UP, DOWN],
  [DOWN, UP],
  [DOWN, DOWN],
] as const

/** IQ1_M: each octet has a shift of its own, the cuts are common. */
function bestHalvesCut(x: Float32Array, weights: Float32Array, order: readonly number[]): Cut | undefined {
  const n = order.length
  const halves = [0, 1].map((h) => prefixSums(x, weights, order, (i) => i >> 3 === h))
  const best = new BestCut()
  for (let from = 0; from <= n; from++)
    for (let to = from; to <= n; to++) {
      const sums = halves.map((half) => [UP, DOWN].map((values) => shiftedSums(half, from, to, values)))
      for (const shifts of TWO_SHIFTS) {
        const [first, second] = shifts.map((values, h) => sums[h][values === UP ? 0 : 1])
        best.offer(fround(first.xq + second.xq), fround(first.q2 + second.q2), from, to, shifts)
      }
    }
  return best.cut
}

/** The sums of a half: neighbouring values differ by 1, so that what lies below each cut is taken off once. */
function shiftedSums(
  { wx, w }: { wx: Float32Array; w: Float32Array },
  from: number,
  to: number,
  [a, b, c]: Values,
): { xq: number; q2: number } {
  const n = wx.length - 1
  const xq = fround(fround(wx[n] * c) - fround(wx[from] + wx[to]))
  const all = fround(fround(w[n] * c) * c)
  const q2 = fround(fround(all + fround(w[from] * (a * a - b * b))) + fround(w[to] * (b * b - c * c)))
  return { xq, q2 }
}

/** Levels -> rows; the scale is fitted again where an octet was no row. */
function toGrid(
  x: Float32Array,
  weights: Float32Array,
  levels: Uint8Array,
  scale: number,
  shifts: readonly Values[],
): Group {
  const { places } = gridIndex('IQ1')
  const octets = x.length / 8
  const shiftOf = (k: number) => shifts[octets === 2 ? k : 0]
  const rows: number[] = []
  let moved = false
  for (let k = 0; k < octets; k++) {
    let point = 0
    for (let i = 0; i < 8; i++) point |= levels[8 * k + i] << (2 * i)
    let place = places[point]
    if (place < 0) {
      moved = true
      place = nearestRow(-1 - place, x.subarray(8 * k), weights.subarray(8 * k), scale, shiftOf(k))
    }
    if (place < 0) return { scale: Number.NaN, rows: new Array<number>(octets).fill(0), shifts }
    rows.push(place)
  }
  if (!moved) return { scale, rows, shifts }
  const { points } = gridOf('IQ1')
  let xq = 0
  let q2 = 0
  for (let i = 0; i < x.length; i++) {
    const q = shiftOf(i >> 3)[(points[rows[i >> 3]] >> (2 * (i & 7))) & 3]
    const wq = fround(weights[i] * q)
    xq = fround(xq + fround(wq * x[i]))
    q2 = fround(q2 + fround(wq * q))
  }
  return { scale: xq > 0 && q2 > 0 ? fround(xq / q2) : scale, rows, shifts }
}

/** The row of the first nearest candidate, or -1 where no distance is finite. */
function nearestRow(list: number, x: Float32Array, weights: Float32Array, scale: number, values: Values): number {
  const { places, candidates } = gridIndex('IQ1')
  let best = LARGEST_FLOAT
  let found = -1
  for (let c = list + 1; c <= list + candidates[list]; c++) {
    let distance = 0
    for (let i = 0; i < 8; i++) {
      const diff = fround(fround(scale * values[(candidates[c] >> (2 * i)) & 3]) - x[i])
      distance = fround(distance + fround(fround(weights[i] * diff) * diff))
    }
    if (distance < best) {
      best = distance
      found = places[candidates[c]]
    }
  }
  return found
}

/** IQ1_M: the block's scale that fits best under the groups' codes. */
function refit(
  x: Float32Array,
  weights: Float32Array,
  groups: readonly Group[],
  codes: readonly number[],
  d: number,
): number {
  const { points } = gridOf('IQ1')
  let xq = 0
  let q2 = 0
  for (let i = 0; i < SIZE; i++) {
    const { rows, shifts } = groups[i >> 4]
    const k = (i >> 3) & 1
    const q = shifts[k][(points[rows[k]] >> (2 * (i & 7))) & 3] * (2 * codes[i >> 4] + 1)
    const wq = fround(weights[i] * q)
    xq = fround(xq + fround(wq * x[i]))
    q2 = fround(q2 + fround(wq * q))
  }
  return q2 > 0 ? fround(xq / q2) : d
}
