// Quantisation of bitsandbytes 0.50.2 on a CPU, bit for bit: 4-bit blocks, nested scales, LLM.int8 rows. The oracle of bnb.cc.
// Every operation is one float32 rounding unless a comment says otherwise.

import { type FloatDType, rawTensor } from '../../core/dtypes.ts'
import { BugError, WeightError } from '../../core/errors.ts'
import { f16Bits, fromF16Bits, toFloat32 } from '../../core/half.ts'
import { CODE_ORDER, dynamicMap, lookupBounds } from '../../weights/tables.ts'
import type { QuantizedWeight } from '../../weights/weight.ts'
import type { QuantizeInput } from '../types.ts'
import { type BitsAndBytesSettings, NESTED_BLOCK_SIZE, type Settings4bit, type SettingsInt8 } from './config.ts'
import { torchSum } from './torch-sum.ts'

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

/**
 * Nearest code of the dynamic map for v = -1 + 2 i / 65535. The reference's table has 65,536 entries, which is coarse near 0, so that the
 * nearest code is not always chosen.
 */
function dynamicCodes(map: Float32Array): Uint8Array {
  const codes = new Uint8Array(65536)
  let below = 0
  for (let i = 0; i < codes.length; i++) {
    const v = fround(-1 + fround((2 * i) / 65535))
    while (below < 255 && 0.5 * fround(map[below] + map[below + 1]) < v) below++
    codes[i] = below
  }
  return codes
}

/** 8-bit blockwise codes of `values` in the dynamic map, and each block's absmax (part of double quantisation). */
export function quantizeDynamic(
  values: Float32Array,
  blockSize: number,
  map: Float32Array,
): { codes: Uint8Array; absmax: Float32Array } {
  const table = dynamicCodes(map)
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
  readonly map: Float32Array
  readonly offset: number
}

/** Double quantisation of the scales: codes of their deviations from the mean. */
export function quantizeAbsmax(absmax: Float32Array): NestedAbsmax {
  const offset = fround(torchSum(absmax) / absmax.length)
  const map = dynamicMap()
  const deviations = absmax.map((a) => a - offset)
  const { codes, absmax: nestedAbsmax } = quantizeDynamic(deviations, NESTED_BLOCK_SIZE, map)
  return { codes, nestedAbsmax, map, offset }
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

/** Largest float that float16 rounding keeps finite. */
const F16_OVERFLOW = 65520

/** Throws WeightError at the first element that has no finite value; the reference would write garbage in silence. */
function assertFinite(name: string, x: Float32Array, limit: number): void {
  for (let i = 0; i < x.length; i++) {
    if (Math.abs(x[i]) < limit) continue
    const problem = Number.isFinite(x[i]) ? `${x[i]}, beyond float16's 65504` : `${x[i]}`
    throw new WeightError(`Cannot quantise "${name}": element ${i} is ${problem}`, {
      tensor: name,
      index: i,
      actual: x[i],
      hint: 'the checkpoint may be damaged: check it with the tool that made it, or leave this module float',
    })
  }
}

export async function quantize(input: QuantizeInput<BitsAndBytesSettings>): Promise<QuantizedWeight> {
  const { settings } = input
  switch (settings.kind) {
    case '4bit':
      return quantize4bitWeight(input, settings)
    case 'int8':
      return quantizeInt8Weight(input, settings)
    default:
      return settings satisfies never
  }
}

function quantize4bitWeight(
  { name, tensor }: QuantizeInput<BitsAndBytesSettings>,
  settings: Settings4bit,
): QuantizedWeight {
  const x = toFloat32(tensor)
  assertFinite(name, x, Infinity)
  if (x.length === 0) throw new WeightError(`Cannot quantise "${name}": it is empty`, { tensor: name })
  const { codes, absmax } = quantize4bit(x, settings.blockSize, settings.quantType)
  const scheme = {
    kind: 'lookup',
    bits: 4,
    table: settings.quantType,
    group: { kind: 'flat', size: settings.blockSize },
    original: tensor.dtype as FloatDType,
  } as const
  const codesPart = rawTensor('U8', tensor.shape, codes)
  if (!settings.doubleQuant)
    return {
      scheme,
      shape: tensor.shape,
      parts: { codes: codesPart, scale: rawTensor('F32', [absmax.length], absmax) },
    }
  const nested = quantizeAbsmax(absmax)
  return {
    scheme: { ...scheme, nestedSize: NESTED_BLOCK_SIZE },
    shape: tensor.shape,
    parts: {
      codes: codesPart,
      scaleCodes: rawTensor('U8', [nested.codes.length], nested.codes),
      nestedScale: rawTensor('F32', [nested.nestedAbsmax.length], nested.nestedAbsmax),
      nestedTable: rawTensor('F32', [256], nested.map),
      nestedOffset: rawTensor('F32', [1], Float32Array.of(nested.offset)),
    },
  }
}

function quantizeInt8Weight(
  { name, tensor }: QuantizeInput<BitsAndBytesSettings>,
  settings: SettingsInt8,
): QuantizedWeight {
  const [n, k] = tensor.shape
  if (tensor.shape.length !== 2) throw new BugError(`LLM.int8 needs a matrix, "${name}" is [${tensor.shape}]`)
  const x = toFloat32(tensor)
  assertFinite(name, x, F16_OVERFLOW)
  const { codes, scb } = quantizeInt8(x, n)
  return int8Weight([n, k], codes, scb, settings.outlierThreshold)
}

/** The weight of codes + 128 [N, K] and row absmax [N], with the scale that plain affine kernels use. */
export function int8Weight(
  shape: readonly number[],
  codes: Uint8Array,
  scb: Float32Array,
  outlierThreshold: number,
): QuantizedWeight {
  const inverse127 = fround(1 / 127)
  return {
    scheme: {
      kind: 'affine',
      bits: 8,
      group: { kind: 'flat', size: shape[1] },
      zero: 128,
      activations: { kind: 'int8', outlierThreshold },
    },
    shape,
    parts: {
      codes: rawTensor('U8', shape, codes),
      scb: rawTensor('F32', [scb.length], scb),
      scale: rawTensor(
        'F32',
        [scb.length],
        scb.map((a) => a * inverse127),
      ),
    },
  }
}
