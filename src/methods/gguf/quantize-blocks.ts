// Blocks of 32 with one half scale (and, for *_1, a half minimum): Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, as ggml's quantize_row_*_ref and,
// with importance weights, quantize_row_*_impl. Codes are made with the unrounded scale; the stored one is rounded to half.
import { f16Bits } from '../../core/half.ts'
import { AFFINE_BLOCKS, type AffineBlockType } from '../../weights/affine-blocks.ts'
import { roundHalfAway, truncateToInt8 } from './rounding.ts'
import { type Group, searchAsymmetric, searchSymmetric } from './search.ts'

const { fround, abs, min, sqrt } = Math
const SIZE = 32

/** Codes one a byte [N, K]; scales (and shifts) as half bits, one a block. */
export interface AffineBlocks {
  readonly codes: Uint8Array
  readonly scale: Uint16Array
  readonly shift?: Uint16Array
}

/** Quantises rows [N, K], K a multiple of 32. `importance`: one weight a column, or absent. */
export function quantizeAffine(
  type: AffineBlockType,
  x: Float32Array,
  columns: number,
  importance?: Float32Array,
): AffineBlocks {
  const layout = AFFINE_BLOCKS[type]
  const codes = new Uint8Array(x.length)
  const scale = new Uint16Array(x.length / SIZE)
  const shift = layout.shift ? new Uint16Array(x.length / SIZE) : undefined
  const weights = new Float32Array(SIZE)
  const weighted = importance && type !== 'Q8_0' ? importance : undefined
  let sigma2 = 0
  for (let at = 0; at < x.length; at += SIZE) {
    const column = at % columns
    if (weighted && column === 0) sigma2 = meanSquare(x, at, columns)
    let result: { scale: number; min: number }
    if (weighted) {
      for (let i = 0; i < SIZE; i++)
        weights[i] = weighted[column + i] * fround(sqrt(fround(sigma2 + fround(x[at + i] * x[at + i]))))
      result = search({ x, at, size: SIZE, weights, codes }, layout.bits, layout.shift)
    } else if (type === 'Q8_0') result = roundInt8(x, at, codes)
    else result = layout.shift ? roundToRange(x, at, codes, layout.bits) : roundToMax(x, at, codes, layout.bits)
    scale[at / SIZE] = f16Bits(result.scale)
    if (shift) shift[at / SIZE] = f16Bits(result.min)
  }
  return { codes, scale, shift }
}

function meanSquare(x: Float32Array, at: number, columns: number): number {
  let sum = 0
  for (let i = at; i < at + columns; i++) sum = fround(sum + fround(x[i] * x[i]))
  return fround(sum / columns)
}

const LOW = fround(-0.9)
const DELTA = fround(0.05)

function search(group: Group, bits: number, withShift: boolean): { scale: number; min: number } {
  if (!withShift) return { scale: searchSymmetric(group, 1 << (bits - 1)), min: 0 }
  return searchAsymmetric(group, { limit: (1 << bits) - 1, low: LOW, delta: DELTA, steps: 36 })
}

/** Q4_0, Q5_0: the value of largest magnitude (the first of equals) becomes the code 0. */
function roundToMax(x: Float32Array, at: number, codes: Uint8Array, bits: number) {
  const half = 1 << (bits - 1)
  let max = 0
  for (let i = at; i < at + SIZE; i++) if (abs(x[i]) > abs(max)) max = x[i]
  const scale = fround(max / -half)
  const inverse = scale ? fround(1 / scale) : 0
  for (let i = at; i < at + SIZE; i++) {
    const code = truncateToInt8(fround(fround(x[i] * inverse) + (half + 0.5)))
    codes[i] = min(2 * half - 1, code & 255)
  }
  return { scale, min: 0 }
}

/** Q4_1, Q5_1: the block's minimum becomes 0, its maximum the last code. */
function roundToRange(x: Float32Array, at: number, codes: Uint8Array, bits: number) {
  const limit = (1 << bits) - 1
  let low = x[at]
  let high = x[at]
  for (let i = at + 1; i < at + SIZE; i++) {
    if (x[i] < low) low = x[i]
    if (x[i] > high) high = x[i]
  }
  const scale = fround(fround(high - low) / limit)
  const inverse = scale ? fround(1 / scale) : 0
  for (let i = at; i < at + SIZE; i++) {
    const code = truncateToInt8(fround(fround(fround(x[i] - low) * inverse) + 0.5)) & 255
    codes[i] = bits === 4 ? min(limit, code) : code & limit
  }
  return { scale, min: low }
}

/** Q8_0: signed codes, stored here with 128 added. */
function roundInt8(x: Float32Array, at: number, codes: Uint8Array) {
  let max = 0
  for (let i = at; i < at + SIZE; i++) max = Math.max(max, abs(x[i]))
  const scale = fround(max / 127)
  const inverse = scale ? fround(1 / scale) : 0
  for (let i = at; i < at + SIZE; i++) codes[i] = truncateToInt8(roundHalfAway(fround(x[i] * inverse))) + 128
  return { scale, min: 0 }
}
