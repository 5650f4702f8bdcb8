// 4-bit blockwise quantisation of bitsandbytes 0.50.2 (CPU), bit for bit: bitsandbytes/functional.py, quantize_4bit.
// Blocks run over the flattened tensor; every operation is one float32 rounding.

import { rawTensor } from '../../core/dtypes.ts'
import { WeightError } from '../../core/errors.ts'
import { toFloat32 } from '../../core/half.ts'
import { LOOKUP_TABLES } from '../../weights/tables.ts'
import type { QuantizedWeight } from '../../weights/weight.ts'
import type { QuantizeInput } from '../types.ts'
import type { BitsAndBytesSettings } from './config.ts'

const { fround } = Math
/** fp32(1e-38), a subnormal: the floor of a block's absmax. */
const EPSILON = fround(1e-38)

/** Codes in ascending order of value. */
const ORDER = {
  nf4: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
  fp4: [11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3],
}

/** Midpoints between neighbouring values; a tie goes to the lower one. */
function bounds(type: 'nf4' | 'fp4'): Float32Array {
  const values = ORDER[type].map((code) => LOOKUP_TABLES[type][code])
  return Float32Array.from({ length: 15 }, (_, i) => fround(values[i] + values[i + 1]) / 2)
}

/** Codes (one a byte) and absmax of each block of x. */
export function quantize4bit(
  x: Float32Array,
  blockSize: number,
  type: 'nf4' | 'fp4',
): { codes: Uint8Array; absmax: Float32Array } {
  const limits = bounds(type)
  const order = ORDER[type]
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
      const s = Math.min(1, Math.max(-1, short ? fround(x[i] / floor) : fround(x[i] * reciprocal)))
      let k = 0
      while (k < 15 && limits[k] < s) k++
      codes[i] = order[k]
    }
  }
  return { codes, absmax }
}

export async function quantize({
  name,
  tensor,
  settings,
}: QuantizeInput<BitsAndBytesSettings>): Promise<QuantizedWeight> {
  const x = toFloat32(tensor)
  for (let i = 0; i < x.length; i++) {
    if (!Number.isFinite(x[i]))
      throw new WeightError(`Cannot quantise "${name}": element ${i} is ${x[i]}`, {
        tensor: name,
        index: i,
        actual: x[i],
      })
  }
  const { codes, absmax } = quantize4bit(x, settings.blockSize, settings.quantType)
  return {
    scheme: { kind: 'lookup', bits: 4, table: settings.quantType, group: { kind: 'flat', size: settings.blockSize } },
    shape: tensor.shape,
    parts: { codes: rawTensor('U8', tensor.shape, codes), scale: rawTensor('F32', [absmax.length], absmax) },
  }
}
