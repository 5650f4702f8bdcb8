// What a GGUF file as a whole can be (`general.file_type`) and which tensor types it may hold.
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

export const TENSOR_TYPES: readonly TensorType[] = [
  'F32',
  'F16',
  'BF16',
  ...(Object.keys(AFFINE_BLOCKS) as AffineBlockType[]),
  ...(Object.keys(BLOCK_QUANTIZERS) as SuperblockType[]),
]

const FILE_TYPES = {
  f32: { id: 0, type: 'F32' },
  f16: { id: 1, type: 'F16' },
  bf16: { id: 32, type: 'BF16' },
  q8_0: { id: 7, type: 'Q8_0' },
  q4_0: { id: 2, type: 'Q4_0' },
  q4_1: { id: 3, type: 'Q4_1' },
  q5_0: { id: 8, type: 'Q5_0' },
  q5_1: { id: 9, type: 'Q5_1' },
  q2_k: { id: 10, type: 'Q2_K' },
  q2_k_s: { id: 21, type: 'Q2_K' },
  q3_k_s: { id: 11, type: 'Q3_K' },
  q3_k_m: { id: 12, type: 'Q3_K' },
  q3_k_l: { id: 13, type: 'Q3_K' },
  q4_k_s: { id: 14, type: 'Q4_K' },
  q4_k_m: { id: 15, type: 'Q4_K' },
  q5_k_s: { id: 16, type: 'Q5_K' },
  q5_k_m: { id: 17, type: 'Q5_K' },
  q6_k: { id: 18, type: 'Q6_K' },
  iq1_s: { id: 24, type: 'IQ1_S' },
  iq1_m: { id: 31, type: 'IQ1_M' },
  iq2_xxs: { id: 19, type: 'IQ2_XXS' },
  iq2_xs: { id: 20, type: 'IQ2_XS' },
  iq2_s: { id: 28, type: 'IQ2_XS' },
  iq2_m: { id: 29, type: 'IQ2_S' },
  iq3_xxs: { id: 23, type: 'IQ3_XXS' },
  iq3_xs: { id: 22, type: 'IQ3_S' },
  iq3_s: { id: 26, type: 'IQ3_S' },
  iq3_m: { id: 27, type: 'IQ3_S' },
  iq4_nl: { id: 25, type: 'IQ4_NL' },
  iq4_xs: { id: 30, type: 'IQ4_XS' },
  tq1_0: { id: 36, type: 'TQ1_0' },
  tq2_0: { id: 37, type: 'TQ2_0' },
  mxfp4_moe: { id: 38, type: 'MXFP4' },
  nvfp4: { id: 39, type: 'NVFP4' },
  q1_0: { id: 40, type: 'Q1_0' },
  q2_0: { id: 41, type: 'Q2_0' },
} as const satisfies Record<string, FileType>

const ALIASES: Readonly<Record<string, FileTypeName>> = { q3_k: 'q3_k_m', q4_k: 'q4_k_m', q5_k: 'q5_k_m' }

/** The file types that can be written. */
export const FILE_TYPE_NAMES: readonly FileTypeName[] = (Object.keys(FILE_TYPES) as FileTypeName[]).filter((name) =>
  isTensorType(FILE_TYPES[name].type),
)

export function fileType(name: FileTypeName): FileType {
  return FILE_TYPES[name]
}

/** The file type that a user's spelling means (any case, `q4_k` for `q4_k_m`), or undefined. */
export function fileTypeNamed(text: string): FileTypeName | undefined {
  const name = text.toLowerCase()
  return FILE_TYPE_NAMES.find((known) => known === (Object.hasOwn(ALIASES, name) ? ALIASES[name] : name))
}

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
