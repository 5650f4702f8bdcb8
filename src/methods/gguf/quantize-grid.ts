// The IQ2 and IQ3 types, as ggml's quantize_row_iq2_*_impl and quantize_row_iq3_*_impl: magnitudes become rows of a grid, signs are kept
// apart. For each group of values scales are swept; under each, every cell of 8 or 4 magnitudes becomes the row nearest to it.
import { f16Bits } from '../../core/half.ts'
import { type GridName, gridOf } from '../../weights/superblock/grids.ts'
import { type GridIndex, gridIndex } from './grid-index.ts'
import { clamp, GROUP_EPSILON, nearestInt } from './rounding.ts'
import { searchPositive } from './search.ts'

const { fround, abs, sqrt } = Math
const SIZE = 256
const LARGEST_FLOAT = 2 ** 128 - 2 ** 104

interface GridRule {
  readonly grid: GridName
  /** Values that share a scale. */
  readonly group: 16 | 32
  /** The sweep: scales max / (2 * levels - 1 + delta * i), i = -steps .. steps. */
  readonly steps: number
  readonly delta: number
  /** Groups whose largest magnitude is smaller are zero. */
  readonly epsilon: number
  /** Only 7 signs of 8 are stored: the least important value is flipped where the number of minuses is odd. */
  readonly evenSigns: boolean
  /** sigma2 is so many mean squares. */
  readonly squares: 1 | 2
  /** Weight of a value without importance; absent where importance is compulsory. */
  readonly plainWeight?: (x2: number, sigma2: number) => number
  /** Which cells are searched again with the best scale: those off the grid, or all where one is, or always all. */
  readonly again: 'off' | 'all where off' | 'all'
  /** The block's scale is stored times this. */
  readonly stretch: number
  /** Where all scales are 0 the block is zero bytes; else rows and signs stay. */
  readonly clearsZeros: boolean
  /** Writes one block. */
  readonly put: (block: Uint8Array, fitted: Fitted) => void
}

/** A block: d and scales code each group's scale d * (2 * code + 1); rows a cell, signs 8 values. */
interface Fitted {
  d: number
  readonly codes: Uint8Array
  readonly rows: Uint16Array
  readonly signs: Uint8Array
  /** Groups that are not zero, in order. */
  readonly searched: number[]
}

const IQ2 = { epsilon: GROUP_EPSILON, evenSigns: true, squares: 1, stretch: 1, clearsZeros: true } as const
const TENTH = fround(0.1)
const FIFTH = fround(0.2)

const RULES = {
  IQ2_XXS: { ...IQ2, grid: 'IQ2_XXS', group: 32, steps: 6, delta: TENTH, again: 'all', put: putIq2xxs },
  IQ2_XS: { ...IQ2, grid: 'IQ2_XS', group: 16, steps: 9, delta: TENTH, again: 'off', put: putIq2xs },
  IQ2_S: {
    grid: 'IQ2_S',
    group: 16,
    steps: 9,
    delta: TENTH,
    epsilon: fround(1e-8),
    evenSigns: false,
    squares: 2,
    plainWeight: (x2, sigma2) => fround(fround(0.25 * sigma2) + x2),
    again: 'off',
    stretch: fround(0.9875),
    clearsZeros: false,
    put: putIq2s,
  },
  IQ3_XXS: {
    grid: 'IQ3_XXS',
    group: 32,
    steps: 15,
    delta: FIFTH,
    epsilon: fround(1e-8),
    evenSigns: true,
    squares: 2,
    plainWeight: (x2) => x2,
    again: 'off',
    stretch: fround(1.0125),
    clearsZeros: true,
    put: putIq3xxs,
  },
  IQ3_S: {
    grid: 'IQ3_S',
    group: 32,
    steps: 9,
    delta: FIFTH,
    epsilon: 0,
    evenSigns: false,
    squares: 2,
    plainWeight: (x2) => x2,
    again: 'all where off',
    stretch: fround(1.033),
    clearsZeros: false,
    put: putIq3s,
  },
} as const satisfies Record<string, GridRule>

/** Quantiser of one block; `importance` is compulsory for IQ2_XXS and IQ2_XS. */
export function gridQuantizer(
  type: keyof typeof RULES,
): (x: Float32Array, block: Uint8Array, importance?: Float32Array) => void {
  const rule: GridRule = RULES[type]
  return (x, block, importance) => quantizeBlock(rule, x, block, importance)
}

function quantizeBlock(rule: GridRule, x: Float32Array, block: Uint8Array, importance?: Float32Array): void {
  let sum = 0
  for (let i = 0; i < SIZE; i++) sum = fround(sum + fround(x[i] * x[i]))
  const sigma2 = fround(fround(rule.squares * sum) / SIZE)
  const { size } = gridOf(rule.grid)
  const groups = SIZE / rule.group
  const fitted: Fitted = {
    d: 0,
    codes: new Uint8Array(groups),
    rows: new Uint16Array(SIZE / size),
    signs: new Uint8Array(SIZE / 8),
    searched: [],
  }
  const scales = new Float32Array(groups)
  for (let g = 0; g < groups; g++) {
    const at = g * rule.group
    const group = new GridGroup(rule, x.subarray(at, at + rule.group), sigma2, importance?.subarray(at))
    scales[g] = group.fit()
    if (group.isZero) continue
    fitted.searched.push(g)
    fitted.rows.set(group.rows(), at / size)
    fitted.signs.set(group.signs, at / 8)
  }
  const max = Math.max(0, ...scales) // NaN where a group has no scale: such a block is refused by its own
  if (max === 0 && rule.clearsZeros) return
  if (max !== 0) {
    const d = fround(max / 31)
    const inverse = fround(1 / d)
    fitted.d = f16Bits(fround(d * rule.stretch))
    for (let g = 0; g < groups; g++)
      fitted.codes[g] = clamp(nearestInt(0.5 * fround(fround(inverse * scales[g]) - 1)), 0, 15)
  }
  rule.put(block, fitted)
}

/** The search over one group. */
class GridGroup {
  readonly signs: Uint8Array
  /** Nothing was searched. */
  isZero = false
  private readonly rule: GridRule
  private readonly index: GridIndex
  private readonly size: number
  private readonly bits: number
  private readonly top: number
  /** Magnitudes; negative where an even number of minuses needed it. */
  private readonly x: Float32Array
  private readonly weights: Float32Array
  private readonly roots: Float32Array
  /** Packed point of each cell. */
  private points: Uint16Array

  constructor(rule: GridRule, x: Float32Array, sigma2: number, importance?: Float32Array) {
    this.rule = rule
    const { size, bits, levels } = gridOf(rule.grid)
    this.index = gridIndex(rule.grid)
    this.size = size
    this.bits = bits
    this.top = levels.length
    this.x = x.map(abs)
    this.weights = x.map((v, i) => {
      const x2 = fround(v * v)
      return importance ? importance[i] * fround(sqrt(fround(sigma2 + x2))) : rule.plainWeight!(x2, sigma2)
    })
    this.roots = this.weights.map(sqrt)
    this.signs = new Uint8Array(x.length / 8)
    this.points = new Uint16Array(x.length / size)
    x.forEach((v, i) => {
      if (!(v >= 0)) this.signs[i >> 3] |= 1 << (i & 7)
    })
    if (rule.evenSigns) for (let k = 0; k < this.signs.length; k++) this.makeEven(k)
  }

  /** Flips the least important of eight values where the number of minuses is odd. */
  private makeEven(k: number): void {
    let odd = 0
    let least = 8 * k
    let smallest = Number.POSITIVE_INFINITY
    for (let i = 8 * k; i < 8 * k + 8; i++) {
      odd ^= (this.signs[k] >> (i & 7)) & 1
      const cost = fround(fround(this.weights[i] * this.x[i]) * this.x[i])
      if (cost < smallest) {
        smallest = cost
        least = i
      }
    }
    if (odd) {
      this.x[least] = -this.x[least]
      this.signs[k] ^= 1 << (least & 7)
    }
    this.signs[k] &= 127
  }

  /** The scale of the group, 0 for none; NaN where it has none that can be stored. */
  fit(): number {
    const { rule } = this
    const max = Math.max(...this.x)
    if (rule.epsilon === 0 ? max === 0 : max < rule.epsilon) return this.zero()
    const span = 2 * this.top - 1
    let scale = fround(max / span)
    let reach = max // what the sweep's middle maps to the highest level
    if (rule.again === 'all') {
      scale = this.positiveScale()
      reach = fround(scale * this.top)
      if (reach <= 0) return this.zero()
    }
    let best = 0
    let found = false
    let off = new Uint8Array(this.points.length)
    const trial = new Uint16Array(this.points.length)
    const offTrial = new Uint8Array(off.length)
    for (let step = -rule.steps; step <= rule.steps; step++) {
      const inverse = fround(fround(span + fround(step * rule.delta)) / reach)
      if (!this.nearestPoints(inverse, fround(1 / inverse), trial, offTrial)) return Number.NaN
      const [xq, q2] = this.sums(trial)
      if (!(q2 > 0 && fround(xq * xq) > fround(best * q2))) continue
      scale = fround(xq / q2)
      best = fround(scale * xq)
      this.points = trial.slice()
      off = offTrial.slice()
      found = true
    }
    if (rule.again === 'all' || (rule.again === 'all where off' && (!found || off.includes(1)))) off.fill(1)
    if (scale > 0 && off.includes(1)) {
      if (!this.nearestPoints(fround(1 / scale), scale, this.points, undefined, off)) return Number.NaN
      const [xq, q2] = this.sums(this.points)
      if (q2 > 0) scale = fround(xq / q2)
    }
    if (scale < 0) {
      scale = -scale
      for (let k = 0; k < this.signs.length; k++) this.signs[k] = ~this.signs[k] & (rule.evenSigns ? 127 : 255)
    }
    return scale
  }

  private zero(): number {
    this.isZero = true
    return 0
  }

  private positiveScale(): number {
    const codes = new Uint8Array(this.x.length)
    return searchPositive({ x: this.x, at: 0, size: this.x.length, weights: this.weights, codes }, this.top + 1)
  }

  /** The nearest row of each cell (of `only`) under a scale. False where a cell has none, for its distances are not finite. */
  private nearestPoints(
    inverse: number,
    scale: number,
    out: Uint16Array,
    off?: Uint8Array,
    only?: Uint8Array,
  ): boolean {
    const { x, size, bits, index } = this
    for (let cell = 0; cell < out.length; cell++) {
      if (only && !only[cell]) continue
      let point = 0
      for (let i = 0; i < size; i++) {
        const level = nearestInt(0.5 * fround(fround(inverse * x[cell * size + i]) - 1))
        point |= clamp(level, 0, this.top - 1) << (bits * i)
      }
      const place = index.places[point]
      if (off) off[cell] = place < 0 ? 1 : 0
      if (place < 0) point = this.nearestCandidate(-1 - place, cell * size, scale)
      if (point < 0) return false
      out[cell] = point
    }
    return true
  }

  private nearestCandidate(list: number, at: number, scale: number): number {
    const { x, roots, size, bits } = this
    const { candidates } = this.index
    const mask = (1 << bits) - 1
    let best = LARGEST_FLOAT
    let found = -1
    for (let c = list + 1; c <= list + candidates[list]; c++) {
      let distance = 0
      for (let i = 0; i < size; i++) {
        const q = 2 * ((candidates[c] >> (bits * i)) & mask) + 1
        const diff = fround(fround(scale * q) - x[at + i])
        distance = fround(distance + fround(fround(roots[at + i] * diff) * diff))
      }
      if (distance < best) {
        best = distance
        found = candidates[c]
      }
    }
    return found
  }

  /** Weighted sums of x * q and q * q over the group. */
  private sums(points: Uint16Array): [number, number] {
    const { x, weights, size, bits } = this
    const mask = (1 << bits) - 1
    let xq = 0
    let q2 = 0
    for (let i = 0; i < x.length; i++) {
      const q = 2 * ((points[Math.floor(i / size)] >> (bits * (i % size))) & mask) + 1
      xq = fround(xq + fround(fround(weights[i] * x[i]) * q))
      q2 = fround(q2 + fround(fround(weights[i] * q) * q))
    }
    return [xq, q2]
  }

  rows(): Uint16Array {
    return this.points.map((point) => this.index.places[point])
  }
}

function putHalf(block: Uint8Array, { d }: Fitted): void {
  block[0] = d & 255
  block[1] = d >> 8
}

/** A word of four times 7 signs, and a group's 4-bit scale on top. */
function putSignsAndScale(block: Uint8Array, at: number, { signs, codes }: Fitted, group: number): void {
  let word = codes[group] << 28
  for (let k = 0; k < 4; k++) word |= signs[4 * group + k] << (7 * k)
  for (let i = 0; i < 4; i++) block[at + i] = word >>> (8 * i)
}

/** Two 4-bit codes a byte, the first low. */
function putNibbles(block: Uint8Array, at: number, codes: Uint8Array): void {
  codes.forEach((code, i) => {
    block[at + (i >> 1)] |= code << (i & 1 ? 4 : 0)
  })
}

function putIq2xxs(block: Uint8Array, fitted: Fitted): void {
  putHalf(block, fitted)
  for (let g = 0; g < 8; g++) {
    block.set(fitted.rows.subarray(4 * g, 4 * g + 4), 2 + 8 * g)
    putSignsAndScale(block, 6 + 8 * g, fitted, g)
  }
}

function putIq2xs(block: Uint8Array, fitted: Fitted): void {
  putHalf(block, fitted)
  fitted.rows.forEach((row, k) => {
    const code = row | (fitted.signs[k] << 9)
    block[2 + 2 * k] = code & 255
    block[3 + 2 * k] = code >> 8
  })
  putNibbles(block, 66, fitted.codes)
}

function putIq2s(block: Uint8Array, fitted: Fitted): void {
  putHalf(block, fitted)
  fitted.rows.forEach((row, k) => {
    block[2 + k] = row & 255
    block[66 + (k >> 2)] |= (row >> 8) << (2 * (k & 3))
  })
  block.set(fitted.signs, 34)
  putNibbles(block, 74, fitted.codes)
}

function putIq3xxs(block: Uint8Array, fitted: Fitted): void {
  putHalf(block, fitted)
  block.set(fitted.rows, 2)
  for (let g = 0; g < 8; g++) putSignsAndScale(block, 66 + 4 * g, fitted, g)
}

/** ggml steps over its signs and low bytes only after a group that is not zero, so those of later groups stand too early. Same bytes. */
function putIq3s(block: Uint8Array, fitted: Fitted): void {
  putHalf(block, fitted)
  fitted.searched.forEach((g, place) => {
    fitted.rows.subarray(8 * g, 8 * g + 8).forEach((row, k) => {
      block[2 + 8 * place + k] = row & 255
      block[66 + g] |= (row >> 8) << k
    })
    block.set(fitted.signs.subarray(4 * g, 4 * g + 4), 74 + 4 * place)
  })
  putNibbles(block, 106, fitted.codes)
}
