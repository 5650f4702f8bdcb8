// Every tensor type of ggml 0.25 as a row: how many elements a block holds and how many bytes it takes. The fields inside a block are
// the business of weights/; here only `wide` says which bytes form numbers of 2, 4 or 8 bytes, so that big-endian files can be turned round.
import { FileError } from '../../core/errors.ts'

/** A run of `count` numbers of `width` bytes at `offset` in a block. */
export type WideField = readonly [offset: number, width: 2 | 4 | 8, count: number]

export interface GgmlType {
  readonly id: number
  readonly name: string
  /** Elements of a block; a row must hold whole blocks. */
  readonly elements: number
  /** Bytes of a block. */
  readonly bytes: number
  /** Undefined where the order of bytes in a big-endian file is not defined. */
  readonly wide: readonly WideField[] | undefined
}

const NO_FIELD: readonly WideField[] = []
const D: readonly WideField[] = [[0, 2, 1]]
const D_M: readonly WideField[] = [[0, 2, 2]]

const ROWS: readonly (readonly [
  id: number,
  name: string,
  elements: number,
  bytes: number,
  wide?: readonly WideField[],
])[] = [
  [0, 'F32', 1, 4, [[0, 4, 1]]],
  [1, 'F16', 1, 2, D],
  [2, 'Q4_0', 32, 18, D],
  [3, 'Q4_1', 32, 20, D_M],
  [
    6,
    'Q5_0',
    32,
    22,
    [
      [0, 2, 1],
      [2, 4, 1],
    ],
  ],
  [
    7,
    'Q5_1',
    32,
    24,
    [
      [0, 2, 2],
      [4, 4, 1],
    ],
  ],
  [8, 'Q8_0', 32, 34, D],
  [9, 'Q8_1', 32, 36, D_M],
  [10, 'Q2_K', 256, 84, [[80, 2, 2]]],
  [11, 'Q3_K', 256, 110, [[108, 2, 1]]],
  [12, 'Q4_K', 256, 144, D_M],
  [13, 'Q5_K', 256, 176, D_M],
  [14, 'Q6_K', 256, 210, [[208, 2, 1]]],
  [
    15,
    'Q8_K',
    256,
    292,
    [
      [0, 4, 1],
      [260, 2, 16],
    ],
  ],
  [16, 'IQ2_XXS', 256, 66],
  [17, 'IQ2_XS', 256, 74, [[0, 2, 33]]],
  [18, 'IQ3_XXS', 256, 98],
  [
    19,
    'IQ1_S',
    256,
    50,
    [
      [0, 2, 1],
      [34, 2, 8],
    ],
  ],
  [20, 'IQ4_NL', 32, 18, D],
  [21, 'IQ3_S', 256, 110, D],
  [22, 'IQ2_S', 256, 82, D],
  [23, 'IQ4_XS', 256, 136, D_M],
  [24, 'I8', 1, 1, NO_FIELD],
  [25, 'I16', 1, 2, D],
  [26, 'I32', 1, 4, [[0, 4, 1]]],
  [27, 'I64', 1, 8, [[0, 8, 1]]],
  [28, 'F64', 1, 8, [[0, 8, 1]]],
  [29, 'IQ1_M', 256, 56],
  [30, 'BF16', 1, 2, D],
  [34, 'TQ1_0', 256, 54, [[52, 2, 1]]],
  [35, 'TQ2_0', 256, 66, [[64, 2, 1]]],
  [39, 'MXFP4', 32, 17, NO_FIELD],
  [40, 'NVFP4', 64, 36, NO_FIELD],
  [41, 'Q1_0', 128, 18, D],
  [42, 'Q2_0', 64, 18, D],
]

/** Ids that ggml once gave and took back. */
const REMOVED: Readonly<Record<number, string>> = {
  4: 'Q4_2',
  5: 'Q4_3',
  31: 'Q4_0_4_4',
  32: 'Q4_0_4_8',
  33: 'Q4_0_8_8',
  36: 'IQ4_NL_4_4',
  37: 'IQ4_NL_4_8',
  38: 'IQ4_NL_8_8',
}

export const GGML_TYPES: readonly GgmlType[] = ROWS.map(([id, name, elements, bytes, wide]) => ({
  id,
  name,
  elements,
  bytes,
  wide,
}))

const BY_ID = new Map(GGML_TYPES.map((type) => [type.id, type]))
const BY_NAME = new Map(GGML_TYPES.map((type) => [type.name, type]))

/** The type called `name` (`'Q4_K'`), or undefined. */
export function ggmlTypeNamed(name: string): GgmlType | undefined {
  return BY_NAME.get(name)
}

/** The type with this id. Throws FileError that names a removed or unknown one. */
export function ggmlTypeOf(id: number, file: string, tensor: string): GgmlType {
  const found = BY_ID.get(id)
  if (found) return found
  const removed = REMOVED[id]
  const what = removed ? `the removed type ${id} (${removed})` : `the unknown type ${id}`
  throw new FileError(`Cannot read "${file}" as GGUF: tensor "${tensor}" has ${what}`, {
    file,
    tensor,
    actual: id,
    hint: removed
      ? 'make the file again from its float original: llama.cpp dropped this type too'
      : 'the file may come from a newer ggml than this release of fewbit knows',
  })
}

/** Bytes of a tensor of whole blocks; its rows are `rowLength` elements long. Undefined where a row is no multiple of the block. */
export function ggmlBytes(type: GgmlType, elements: number, rowLength: number): number | undefined {
  return rowLength % type.elements === 0 ? (elements / type.elements) * type.bytes : undefined
}

/** `size` rounded up to a multiple of `alignment`. */
export function padded(size: number, alignment: number): number {
  return Math.ceil(size / alignment) * alignment
}
