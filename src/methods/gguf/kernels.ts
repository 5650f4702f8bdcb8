// The compiled side of this method (native/kernels/quantize/gguf*.cc): what a kernel is given and how its refusals are read.
import type { RawTensor } from '../../core/dtypes.ts'
import type { QuantizerKernels } from '../../core/kernels.ts'
import {
  AFFINE_BLOCK_SIZE,
  AFFINE_BLOCKS,
  type AffineBlockType,
  affineBlockBytes,
  affineBlockWeight,
} from '../../weights/affine-blocks.ts'
import type { AffineScheme } from '../../weights/scheme.ts'
import { isSuperblockType, SUPERBLOCKS, superblockBytes } from '../../weights/superblock/index.ts'
import { part, type QuantizedWeight } from '../../weights/weight.ts'
import type { FloatType, TensorType } from './file-types.ts'
import { gridIndex } from './grid-index.ts'

export type BlockType = Exclude<TensorType, FloatType>

/** The number of a type in the kernels: ggml's. */
function typeId(type: BlockType): number {
  return isSuperblockType(type) ? SUPERBLOCKS[type].id : AFFINE_BLOCKS[type].id
}

/** fb::gguf::Source. */
const SOURCES: readonly FloatType[] = ['F32', 'F16', 'BF16']

/** Why a row is refused: fb::gguf::Flag. */
export type Refusal = 'value' | 'scale'
const REFUSALS: readonly (Refusal | undefined)[] = [undefined, 'value', 'scale']

/** The first row that is refused: one with an impossible value before one whose scale overflows. */
export interface RefusedRow {
  readonly row: number
  readonly refusal: Refusal
}

/** What a run of rows becomes: codes and half scales, or blocks as `codes`. */
export interface QuantizedRows {
  readonly codes: Uint8Array
  readonly scale: Uint8Array
  readonly shift: Uint8Array
  readonly refused?: RefusedRow
}

/** Bytes of the blocks of `count` values. */
function blockBytesOf(type: BlockType, count: number): number {
  return isSuperblockType(type)
    ? (count / SUPERBLOCKS[type].elements) * superblockBytes(type)
    : (count / AFFINE_BLOCK_SIZE) * affineBlockBytes(type)
}

/** Bytes of each part of `count` values. */
export function partBytes(type: BlockType, count: number): { codes: number; scale: number; shift: number } {
  if (isSuperblockType(type)) return { codes: blockBytesOf(type, count), scale: 0, shift: 0 }
  const halves = (count / AFFINE_BLOCK_SIZE) * 2
  return { codes: count, scale: halves, shift: AFFINE_BLOCKS[type].shift ? halves : 0 }
}

/** Quantises rows of F32, F16 or BF16 with one run of importance, or none. `packed`: the codes of every type are its blocks. */
export async function quantizeWithKernels(
  kernels: QuantizerKernels,
  type: BlockType,
  x: RawTensor,
  columns: number,
  importance?: Float32Array,
  packed = false,
): Promise<QuantizedRows> {
  const [rows] = x.shape
  const count = rows * columns
  const bytes = packed ? { codes: blockBytesOf(type, count), scale: 0, shift: 0 } : partBytes(type, count)
  const [codes, scale, shift, flags] = await kernels.run(
    'fb_gguf_quantize',
    [x.data, importance ?? new Float32Array(0), ...gridInputs(type)],
    [{ bytes: bytes.codes }, { bytes: bytes.scale }, { bytes: bytes.shift }, { bytes: rows }],
    [rows, columns, SOURCES.indexOf(x.dtype as FloatType), typeId(type), importance ? rows : 0, packed ? 1 : 0],
  )
  return {
    codes: new Uint8Array(codes),
    scale: new Uint8Array(scale),
    shift: new Uint8Array(shift),
    refused: firstRefused(new Uint8Array(flags)),
  }
}

/** The index of the type's grid, or nothing twice. */
function gridInputs(type: BlockType): ArrayBufferView[] {
  const grid = isSuperblockType(type) ? SUPERBLOCKS[type].grid : undefined
  if (!grid) return [new Int32Array(0), new Uint16Array(0)]
  const { places, candidates } = gridIndex(grid)
  return [places, candidates]
}

/** Converts rows among F32, F16 and BF16. */
export async function convertWithKernels(
  kernels: QuantizerKernels,
  type: FloatType,
  x: RawTensor,
  columns: number,
): Promise<{ values: Uint8Array; refused?: RefusedRow }> {
  const [rows] = x.shape
  const [values, flags] = await kernels.run(
    'fb_gguf_convert',
    [x.data],
    [{ bytes: rows * columns * (type === 'F32' ? 4 : 2) }, { bytes: rows }],
    [rows, columns, SOURCES.indexOf(x.dtype as FloatType), SOURCES.indexOf(type)],
  )
  return { values: new Uint8Array(values), refused: firstRefused(new Uint8Array(flags)) }
}

function firstRefused(flags: Uint8Array): RefusedRow | undefined {
  for (const flag of [1, 2]) {
    const row = flags.indexOf(flag)
    if (row >= 0) return { row, refusal: REFUSALS[flag]! }
  }
  return undefined
}

/** Codes and scales -> the file's blocks. */
export async function packWithKernels(
  kernels: QuantizerKernels,
  type: AffineBlockType,
  weight: QuantizedWeight,
): Promise<Uint8Array> {
  const codes = part(weight, 'codes').data
  const shift = AFFINE_BLOCKS[type].shift ? part(weight, 'shift').data : new Uint8Array(0)
  const count = codes.length / AFFINE_BLOCK_SIZE
  const [blocks] = await kernels.run(
    'fb_gguf_pack',
    [codes, part(weight, 'scale').data, shift],
    [{ bytes: count * affineBlockBytes(type) }],
    [count, typeId(type)],
  )
  return new Uint8Array(blocks)
}

/** The file's blocks -> codes and scales. */
export async function unpackWithKernels(
  kernels: QuantizerKernels,
  type: AffineBlockType,
  shape: readonly number[],
  blocks: Uint8Array,
): Promise<QuantizedWeight<AffineScheme>> {
  const count = blocks.length / affineBlockBytes(type)
  const bytes = partBytes(type, count * AFFINE_BLOCK_SIZE)
  const [codes, scale, shift] = await kernels.run(
    'fb_gguf_unpack',
    [blocks],
    [{ bytes: bytes.codes }, { bytes: bytes.scale }, { bytes: bytes.shift }],
    [count, typeId(type)],
  )
  return affineBlockWeight(
    type,
    shape,
    new Uint8Array(codes),
    new Uint8Array(scale),
    bytes.shift > 0 ? new Uint8Array(shift) : undefined,
  )
}
