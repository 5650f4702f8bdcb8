// The quantisers of bitsandbytes 0.50.2 on a CPU in plain TypeScript, bit for bit: 4-bit blocks, nested scales, LLM.int8 rows. The oracle
// of native/kernels/quantize/bnb.cc. Every operation is one float32 rounding unless a comment says otherwise.
import { f16Bits, fromF16Bits } from '../../core/half.ts'
import { CODE_ORDER, dynamicMap, lookupBounds } from '../../weights/tables.ts'
import { torchSum } from '../torch-sum.ts'
import { NESTED_BLOCK_SIZE } from './config.ts'

const { fround } = Math
/** fp32(1e-38), a subnormal: the floor of a block's absmax. */
const EPSILON = fround(1e-38)
const clamp1 = (value: number) => Math.min(1, Math.max(-1, value))

/** Codes (one a byte) and absmax of each block of x. Blocks run over the flattened tensor; the last one may be short. */
export function quantize4bit(
  x: Float32Array,
  blockSize: number,
  type: 'nf4' | 'fp4',
): { codes: Uint8Array; absmax: Float32Array } {
  const bounds = lookupBounds(type)
  const order = CODE_ORDER[type]
  const codes = new Uint8Array(x.length)
  const absmax = new Float32Array(Math.ceil(x.length / blockSize))
  for (let b = 0; b < absmax.length; b++) {
    const end = Math.min(x.length, (b + 1) * blockSize)
    let max = 0
    for (let i = b * blockSize; i < end; i++) max = Math.max(max, Math.abs(x[i]))
    const short = end - b * blockSize < blockSize
    const floor = Math.max(max, EPSILON)
    const reciprocal = fround(1 / floor)
    absmax[b] = short ? floor : max // the reference stores the clamped value for a short last block only
    for (let i = b * blockSize; i < end; i++) {
      const s = clamp1(short ? fround(x[i] / floor) : fround(x[i] * reciprocal))
      let k = 0
      while (k < 15 && bounds[k] < s) k++
      codes[i] = order[k]
    }
  }
  return { codes, absmax }
}

let dynamicTable: Uint8Array | undefined

/**
 * Dynamic code of v = -1 + 2 i / 65535, for i in 0..65535. The reference looks codes up in such a table, which is coarse near 0: it does
 * not always hold the nearest code.
 */
export function dynamicCodes(): Uint8Array {
  if (dynamicTable) return dynamicTable
  const map = dynamicMap()
  const codes = new Uint8Array(65536)
  let below = 0
  for (let i = 0; i < codes.length; i++) {
    const v = fround(-1 + fround((2 * i) / 65535))
    while (below < 255 && 0.5 * fround(map[below] + map[below + 1]) < v) below++
    codes[i] = below
  }
  return (dynamicTable = codes)
}

/** 8-bit blockwise codes of `values` in the dynamic map, and each block's absmax (part of double quantisation). */
export function quantizeDynamic(values: Float32Array, blockSize: number): { codes: Uint8Array; absmax: Float32Array } {
  const table = dynamicCodes()
  const codes = new Uint8Array(values.length)
  const absmax = new Float32Array(Math.ceil(values.length / blockSize))
  for (let b = 0; b < absmax.length; b++) {
    const end = Math.min(values.length, (b + 1) * blockSize)
    let max = 0
    for (let i = b * blockSize; i < end; i++) max = Math.max(max, Math.abs(values[i]))
    absmax[b] = max
    if (max === 0) continue // codes stay 0, not the code of 0
    const inverse = fround(1 / max)
    for (let i = b * blockSize; i < end; i++) {
      const t = clamp1(fround(values[i] * inverse))
      const u = fround(t + 1) * 0.5
      codes[i] = table[Math.floor(fround(u * 65535 + 0.5))] // the reference fuses multiply and add: one rounding
    }
  }
  return { codes, absmax }
}

export interface NestedAbsmax {
  readonly codes: Uint8Array
  readonly nestedAbsmax: Float32Array
  readonly offset: number
}

/** Mean of the scales, in torch's order of summation. */
export function meanOf(absmax: Float32Array): number {
  return fround(torchSum(absmax) / absmax.length)
}

/** Double quantisation of the scales: codes of their deviations from the mean. */
export function quantizeAbsmax(absmax: Float32Array): NestedAbsmax {
  const offset = meanOf(absmax)
  const deviations = absmax.map((a) => a - offset)
  const { codes, absmax: nestedAbsmax } = quantizeDynamic(deviations, NESTED_BLOCK_SIZE)
  return { codes, nestedAbsmax, offset }
}

/** LLM.int8: codes + 128 [rows, K] and the absmax of each row, after rounding x to float16. */
export function quantizeInt8(x: Float32Array, rows: number): { codes: Uint8Array; scb: Float32Array } {
  const columns = x.length / rows
  const codes = new Uint8Array(x.length)
  const scb = new Float32Array(rows)
  for (let r = 0; r < rows; r++) {
    const row = x.subarray(r * columns, (r + 1) * columns).map((v) => fromF16Bits(f16Bits(v)))
    let max = 0
    for (const v of row) max = Math.max(max, Math.abs(v))
    scb[r] = max
    const scale = max === 0 ? 0 : fround(fround(1 / max) * 127) // two roundings: not 127 / max
    for (let i = 0; i < columns; i++) codes[r * columns + i] = roundHalfEven(fround(row[i] * scale)) + 128
  }
  return { codes, scb }
}

function roundHalfEven(value: number): number {
  const floor = Math.floor(value)
  const rest = value - floor
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor
}
