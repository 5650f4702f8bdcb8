// One tensor -> its GGUF type: floats are converted, the rest quantised, in slabs of rows, by the kernels where there are some, else by
// the oracle. A row that cannot be stored is refused, where the reference would stop too or write zeros.
import { type DType, elementCount, isFloat, type RawTensor, rawTensor } from '../../core/dtypes.ts'
import { ConfigError, WeightError } from '../../core/errors.ts'
import { fromFloat32, toFloat32 } from '../../core/half.ts'
import type { QuantizerKernels } from '../../core/kernels.ts'
import { affineBlockWeight, isAffineBlockType } from '../../weights/affine-blocks.ts'
import { decodeWith } from '../../weights/decode-kernel.ts'
import { isSuperblockType, SUPERBLOCKS, type SuperblockType, superblockBytes } from '../../weights/superblock/index.ts'
import { decode, denseWeight, type QuantizedWeight } from '../../weights/weight.ts'
import type { NamedTensor, QuantizeInput } from '../types.ts'
import type { GgufSettings } from './config.ts'
import { type FloatType, isFloatType } from './file-types.ts'
import {
  type BlockType,
  convertWithKernels,
  partBytes,
  type QuantizedRows,
  quantizeWithKernels,
  type RefusedRow,
} from './kernels.ts'
import { quantizeAffine } from './quantize-blocks.ts'
import { needsImportance, quantizeSuperblocks } from './quantize-superblocks.ts'
import { stored, weightOfBlocks } from './stored.ts'

/** Values of one slab: bounds the memory beside source and result to some 100 MB. */
const SLAB = 1 << 23
/**
 * No block holds a larger value: a half scale times int8 times 6 bits (Q6_K). Beyond it sums overflow and the reference writes zeros, so
 * that a look at the scales would find nothing.
 */
const BLOCK_LIMIT = 65504 * 128 * 32
const FLOAT_LIMIT = 2 ** 128 - 2 ** 104

/**
 * The stored tensor at once, where kernels are given: the same bytes as `quantize` and `stored.write` give, without the codes in between.
 * Throws WeightError by row.
 */
export async function encode(input: QuantizeInput<GgufSettings>): Promise<readonly NamedTensor[]> {
  const { name, tensor, settings, kernels } = input
  const { type } = settings
  if (!kernels || isFloatType(type)) return stored.write(name, await quantize(input), settings, kernels)
  checkImportance(name, settings)
  const parts: Uint8Array[] = []
  const x = await inRows(tensor, tensor.shape.at(-1)!, kernels)
  for (const { from, rows, weights } of slabs(x, settings)) {
    const { codes, refused } = await quantizeWithKernels(kernels, type, rows, x.shape[1], weights, true)
    if (refused) refuse(name, rows, refused, (input.firstRow ?? 0) + from, BLOCK_LIMIT)
    parts.push(codes)
  }
  return [{ name, tensor: { dtype: type as string as DType, shape: tensor.shape, data: joined(parts) } }]
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  if (parts.length === 1) return parts[0]
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}

function checkImportance(name: string, { type, importance }: GgufSettings): void {
  if (importance || isFloatType(type) || !needsImportance(type)) return
  throw new ConfigError(`Cannot make ${type.toLowerCase()} of "${name}": it has no importance, which this type needs`, {
    tensor: name,
    hint: 'give an importance matrix that covers the tensor with --imatrix FILE, or choose a type such as iq2_s',
  })
}

/** Quantises [.., N, K]; with importance for several experts each takes its own run of weights. Throws WeightError by row. */
export async function quantize({
  name,
  tensor,
  settings,
  kernels,
  firstRow = 0,
}: QuantizeInput<GgufSettings>): Promise<QuantizedWeight> {
  const { type } = settings
  const { shape } = tensor
  const columns = shape[shape.length - 1]
  const x = await inRows(tensor, columns, kernels)
  if (isFloatType(type)) return convert(name, x, shape, type, firstRow, kernels)
  checkImportance(name, settings)
  const bytes = partBytes(type, elementCount(shape))
  const codes = new Uint8Array(bytes.codes)
  const scale = new Uint8Array(bytes.scale)
  const shift = new Uint8Array(bytes.shift)
  for (const { from, rows, weights } of slabs(x, settings)) {
    const done = kernels
      ? await quantizeWithKernels(kernels, type, rows, columns, weights)
      : quantizeByOracle(type, toFloat32(rows), columns, weights)
    if (done.refused) refuse(name, rows, done.refused, firstRow + from, BLOCK_LIMIT)
    const at = partBytes(type, from * columns)
    codes.set(done.codes, at.codes)
    scale.set(done.scale, at.scale)
    shift.set(done.shift, at.shift)
  }
  if (isAffineBlockType(type)) return affineBlockWeight(type, shape, codes, scale, shift.length > 0 ? shift : undefined)
  const blocks = rawTensor('U8', [x.shape[0], codes.length / x.shape[0]], codes)
  return { scheme: { kind: 'superblock', type }, shape, parts: { blocks } }
}

/** The tensor as [rows, columns] of F32, F16 or BF16; stored blocks are decoded, F64 is rounded. */
async function inRows(tensor: RawTensor, columns: number, kernels: QuantizerKernels | undefined): Promise<RawTensor> {
  const dtype: string = tensor.dtype
  const shape = [elementCount(tensor.shape) / columns, columns]
  if (isFloat(dtype) && dtype !== 'F64') return { ...tensor, shape }
  if (isFloat(dtype)) return rawTensor('F32', shape, toFloat32(tensor))
  const weight = await weightOfBlocks(dtype, shape, tensor.data, kernels)
  return kernels ? decodeWith(kernels, weight, 'F32') : rawTensor('F32', shape, decode(weight))
}

interface Slab {
  readonly from: number
  readonly rows: RawTensor
  /** The importance of their values, where there is one. */
  readonly weights?: Float32Array
}

/** Runs of rows that do not cross an expert. */
function* slabs(x: RawTensor, { importance }: Pick<GgufSettings, 'importance'>): Generator<Slab> {
  const [rows, columns] = x.shape
  const expertRows = importance ? (rows * columns) / importance.length : rows
  const most = Math.max(1, Math.floor(SLAB / columns))
  for (let from = 0; from < rows; ) {
    const expert = Math.floor(from / expertRows)
    const to = Math.min(rows, (expert + 1) * expertRows, from + most)
    const weights = importance?.subarray(expert * columns, (expert + 1) * columns)
    yield { from, rows: rowsOf(x, from, to), weights }
    from = to
  }
}

function rowsOf(x: RawTensor, from: number, to: number): RawTensor {
  const bytes = x.data.length / x.shape[0]
  return { dtype: x.dtype, shape: [to - from, x.shape[1]], data: x.data.subarray(from * bytes, to * bytes) }
}

async function convert(
  name: string,
  x: RawTensor,
  shape: readonly number[],
  type: FloatType,
  firstRow: number,
  kernels: QuantizerKernels | undefined,
): Promise<QuantizedWeight> {
  const columns = x.shape[1]
  const data = new Uint8Array(elementCount(shape) * (type === 'F32' ? 4 : 2))
  for (const { from, rows } of slabs(x, {})) {
    const { values, refused } = kernels
      ? await convertWithKernels(kernels, type, rows, columns)
      : convertByOracle(type, rows)
    if (refused) refuse(name, rows, refused, firstRow + from, FLOAT_LIMIT, type)
    data.set(values, (data.length / x.shape[0]) * from)
  }
  return denseWeight({ dtype: type, shape, data })
}

function convertByOracle(type: FloatType, rows: RawTensor): { values: Uint8Array; refused?: RefusedRow } {
  const [, columns] = rows.shape
  const x = toFloat32(rows)
  const values = fromFloat32(x, type)
  const bad = rowBeyond(x, columns, FLOAT_LIMIT)
  if (bad >= 0) return { values, refused: { row: bad, refusal: 'value' } }
  const overflow = rowBeyond(toFloat32({ dtype: type, shape: rows.shape, data: values }), columns, FLOAT_LIMIT)
  return overflow < 0 ? { values } : { values, refused: { row: overflow, refusal: 'scale' } }
}

function quantizeByOracle(
  type: BlockType,
  x: Float32Array,
  columns: number,
  importance: Float32Array | undefined,
): QuantizedRows {
  const done = oracleRows(type, x, columns, importance)
  const bad = rowBeyond(x, columns, BLOCK_LIMIT)
  if (bad >= 0) return { ...done, refused: { row: bad, refusal: 'value' } }
  const overflow = rowOfOverflow(type, done, x.length / columns)
  return overflow < 0 ? done : { ...done, refused: { row: overflow, refusal: 'scale' } }
}

function oracleRows(
  type: BlockType,
  x: Float32Array,
  columns: number,
  importance: Float32Array | undefined,
): QuantizedRows {
  const none = new Uint8Array(0)
  if (isSuperblockType(type))
    return { codes: quantizeSuperblocks(type, x, columns, importance), scale: none, shift: none }
  const { codes, scale, shift } = quantizeAffine(type, x, columns, importance)
  return { codes, scale: new Uint8Array(scale.buffer), shift: shift ? new Uint8Array(shift.buffer) : none }
}

/** The first row with a value that is not finite or beyond `limit`, or -1. */
function rowBeyond(x: Float32Array, columns: number, limit: number): number {
  const index = x.findIndex((v) => !(Math.abs(v) <= limit))
  return index < 0 ? -1 : Math.floor(index / columns)
}

/** The first row with a half scale that overflowed, which makes a whole block infinite, or -1. */
function rowOfOverflow(type: BlockType, { codes, scale, shift }: QuantizedRows, rows: number): number {
  const bad = isSuperblockType(type)
    ? [rowOfInfinity(codes, superblockBytes(type), halfReaders(type), rows)]
    : [rowOfInfinity(scale, 2, [halfAt(0)], rows), rowOfInfinity(shift, 2, [halfAt(0)], rows)]
  const found = bad.filter((row) => row >= 0)
  return found.length === 0 ? -1 : Math.min(...found)
}

/** Reads the bits of a half of the block at `at`. */
type HalfReader = (bytes: Uint8Array, at: number) => number

const halfAt =
  (offset: number): HalfReader =>
  (bytes, at) =>
    bytes[at + offset] | (bytes[at + offset + 1] << 8)

function halfReaders(type: SuperblockType): readonly HalfReader[] {
  const { halves, scattered } = SUPERBLOCKS[type]
  return scattered ? [scattered] : halves.map(halfAt)
}

function rowOfInfinity(data: Uint8Array, stride: number, halves: readonly HalfReader[], rows: number): number {
  for (let at = 0; at < data.length; at += stride)
    for (const half of halves) if ((half(data, at) & 0x7c00) === 0x7c00) return Math.floor(at / (data.length / rows))
  return -1
}

function refuse(
  name: string,
  rows: RawTensor,
  { row, refusal }: RefusedRow,
  from: number,
  limit: number,
  type?: FloatType,
): never {
  const value = toFloat32(rowsOf(rows, row, row + 1)).find((v) => !(Math.abs(v) <= limit))
  const problem =
    refusal === 'value'
      ? `the source holds ${value}`
      : type
        ? `a value is too large for ${type}`
        : "a block's scale is too large for a half"
  throw new WeightError(`Cannot quantise "${name}": row ${from + row}: ${problem}`, {
    tensor: name,
    row: from + row,
    ...(value !== undefined && { actual: value }),
  })
}
