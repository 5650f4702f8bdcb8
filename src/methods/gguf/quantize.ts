// One tensor -> its GGUF type: floats are converted, the rest quantised, by the kernels where there are some, else by the oracle.
import { elementCount, type RawTensor, rawTensor } from '../../core/dtypes.ts'
import { WeightError } from '../../core/errors.ts'
import { fromFloat32, toFloat32 } from '../../core/half.ts'
import { affineBlockWeight, isAffineBlockType, unpackAffineBlocks } from '../../weights/affine-blocks.ts'
import { decodeSuperblocks, isSuperblockType, SUPERBLOCK_BYTES, SUPERBLOCK_SIZE } from '../../weights/superblock.ts'
import { decode, denseWeight, type QuantizedWeight } from '../../weights/weight.ts'
import type { QuantizeInput } from '../types.ts'
import type { GgufSettings } from './config.ts'
import { isFloatType, type TensorType } from './file-types.ts'
import { quantizeAffine } from './quantize-blocks.ts'
import { quantizeSuperblocks } from './quantize-superblocks.ts'

/** Quantises [.., N, K]; with importance for several experts each takes its own run of weights. Throws WeightError by row. */
export async function quantize({ name, tensor, settings }: QuantizeInput<GgufSettings>): Promise<QuantizedWeight> {
  const { shape } = tensor
  const columns = shape[shape.length - 1]
  const x = widen(tensor)
  const { type, importance } = settings
  checkRows(name, x, columns, isFloatType(type) ? FLOAT_LIMIT : BLOCK_LIMIT, 'the source holds')
  if (isFloatType(type)) {
    const values = fromFloat32(x, type)
    if (type !== 'F32')
      checkRows(name, toFloat32({ dtype: type, shape, data: values }), columns, FLOAT_LIMIT, `${type} overflows to`)
    return denseWeight({ dtype: type, shape, data: values })
  }
  const experts = importance ? importance.length / columns : 1
  const slab = x.length / experts
  const parts = Array.from({ length: experts }, (_, e) =>
    quantizeRows(
      type,
      x.subarray(e * slab, (e + 1) * slab),
      columns,
      importance?.subarray(e * columns, (e + 1) * columns),
    ),
  )
  const weight = joined(type, shape, parts)
  checkScales(name, weight, columns)
  return weight
}

/** Bytes of each part that a run of rows becomes. */
interface Rows {
  readonly codes: Uint8Array
  readonly scale?: Uint8Array
  readonly shift?: Uint8Array
}

type BlockType = Exclude<TensorType, 'F32' | 'F16' | 'BF16'>

function quantizeRows(type: BlockType, x: Float32Array, columns: number, importance?: Float32Array): Rows {
  if (isSuperblockType(type)) return { codes: quantizeSuperblocks(type, x, columns, importance) }
  const { codes, scale, shift } = quantizeAffine(type, x, columns, importance)
  return { codes, scale: bytesOf(scale), shift: shift && bytesOf(shift) }
}

function bytesOf(values: Uint16Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
}

function joined(type: BlockType, shape: readonly number[], parts: readonly Rows[]): QuantizedWeight {
  const join = (pick: (rows: Rows) => Uint8Array | undefined): Uint8Array | undefined =>
    pick(parts[0]) && concat(parts.map((rows) => pick(rows)!))
  const codes = join((rows) => rows.codes)!
  if (isAffineBlockType(type))
    return affineBlockWeight(
      type,
      shape,
      codes,
      join((rows) => rows.scale)!,
      join((rows) => rows.shift),
    )
  const rows = elementCount(shape.slice(0, -1))
  const blocks = rawTensor('U8', [rows, codes.length / rows], codes)
  return { scheme: { kind: 'superblock', type }, shape, parts: { blocks } }
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  if (parts.length === 1) return parts[0]
  const out = new Uint8Array(parts.reduce((sum, p) => sum + p.length, 0))
  let at = 0
  for (const p of parts) {
    out.set(p, at)
    at += p.length
  }
  return out
}

/** Values of a source tensor, stored blocks included. `dtype` is ggml's name where the source is a GGUF file. */
function widen(tensor: RawTensor): Float32Array {
  const dtype: string = tensor.dtype
  if (isAffineBlockType(dtype)) return decode(unpackAffineBlocks(dtype, tensor.shape, tensor.data))
  if (isSuperblockType(dtype)) return decodeSuperblocks(dtype, tensor.data, 0, elementCount(tensor.shape))
  return toFloat32(tensor)
}

/** No block holds more: a half scale times int8 times 6 bits (Q6_K). Beyond it sums overflow and the reference writes zeros, so that the
 *  check of the scales below would see nothing. */
const BLOCK_LIMIT = 65504 * 128 * 32
const FLOAT_LIMIT = Number.MAX_VALUE

function checkRows(name: string, values: Float32Array, columns: number, limit: number, what: string): void {
  const index = values.findIndex((v) => !(Math.abs(v) <= limit))
  if (index >= 0) refuse(name, Math.floor(index / columns), `${what} ${values[index]}`)
}

function refuse(name: string, row: number, problem: string): never {
  throw new WeightError(`Cannot quantise "${name}": row ${row}: ${problem}`, { tensor: name, row })
}

/** A half scale that overflowed would make a whole block infinite. */
function checkScales(name: string, weight: QuantizedWeight, columns: number): void {
  const { scheme, parts } = weight
  if (scheme.kind === 'superblock') {
    const bytes = SUPERBLOCK_BYTES[scheme.type]
    const at = scheme.type === 'Q6_K' ? [208] : [0, 2]
    checkHalves(name, parts.blocks.data, bytes, at, columns / SUPERBLOCK_SIZE)
    return
  }
  checkHalves(name, parts.scale.data, 2, [0], columns / 32)
  if (parts.shift) checkHalves(name, parts.shift.data, 2, [0], columns / 32)
}

function checkHalves(name: string, data: Uint8Array, stride: number, offsets: readonly number[], perRow: number): void {
  for (let at = 0; at < data.length; at += stride) {
    for (const offset of offsets) {
      if ((data[at + offset + 1] & 0x7c) === 0x7c)
        refuse(name, Math.floor(at / stride / perRow), "a block's scale is too large for a half")
    }
  }
}
