// What a GGUF file as a whole can be (`general.file_type`) and which tensor types it may hold, in this release.
import { AFFINE_BLOCK_SIZE, AFFINE_BLOCKS, type AffineBlockType } from '../../weights/affine-blocks.ts'
import { isSuperblockType, SUPERBLOCKS, type SuperblockType } from '../../weights/superblock/index.ts'
import { BLOCK_QUANTIZERS } from './quantize-superblocks.ts'

export type FloatType = 'F32' | 'F16' | 'BF16'
/** A tensor type that fewbit writes. */
export type TensorType = FloatType | AffineBlockType | SuperblockType

export interface FileType {
  /** Value of `general.file_type`. */
  readonly id: number
  /** What a tensor becomes where no rule says otherwise. */
  readonly type: TensorType
}

export type FileTypeName = keyof typeof FILE_TYPES

const FILE_TYPES = {
  f32: { id: 0, type: 'F32' },
  f16: { id: 1, type: 'F16' },
  bf16: { id: 32, type: 'BF16' },
  q8_0: { id: 7, type: 'Q8_0' },
  q4_0: { id: 2, type: 'Q4_0' },
  q4_1: { id: 3, type: 'Q4_1' },
  q5_0: { id: 8, type: 'Q5_0' },
  q5_1: { id: 9, type: 'Q5_1' },
  q4_k_s: { id: 14, type: 'Q4_K' },
  q4_k_m: { id: 15, type: 'Q4_K' },
  q5_k_s: { id: 16, type: 'Q5_K' },
  q5_k_m: { id: 17, type: 'Q5_K' },
  q6_k: { id: 18, type: 'Q6_K' },
} as const satisfies Record<string, FileType>

const ALIASES: Readonly<Record<string, FileTypeName>> = { q4_k: 'q4_k_m', q5_k: 'q5_k_m' }

export const FILE_TYPE_NAMES = Object.keys(FILE_TYPES) as readonly FileTypeName[]

export function fileType(name: FileTypeName): FileType {
  return FILE_TYPES[name]
}

/** The file type that a user's spelling means (any case, `q4_k` for `q4_k_m`), or undefined. */
export function fileTypeNamed(text: string): FileTypeName | undefined {
  const name = text.toLowerCase()
  if (Object.hasOwn(FILE_TYPES, name)) return name as FileTypeName
  return Object.hasOwn(ALIASES, name) ? ALIASES[name] : undefined
}

export const TENSOR_TYPES: readonly TensorType[] = [
  'F32',
  'F16',
  'BF16',
  ...(Object.keys(AFFINE_BLOCKS) as AffineBlockType[]),
  ...(Object.keys(BLOCK_QUANTIZERS) as SuperblockType[]),
]

export function isTensorType(name: string): name is TensorType {
  return (TENSOR_TYPES as readonly string[]).includes(name)
}

/** True for the types that can be decoded: what is written, and the types of activations. */
export function isReadableType(name: string): boolean {
  return isTensorType(name) || isSuperblockType(name)
}

export function isFloatType(type: string): type is FloatType {
  return type === 'F32' || type === 'F16' || type === 'BF16'
}

/** Values in a block; a row must hold whole blocks. */
export function blockSize(type: TensorType): number {
  if (isFloatType(type)) return 1
  return isSuperblockType(type) ? SUPERBLOCKS[type].elements : AFFINE_BLOCK_SIZE
}
