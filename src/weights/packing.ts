// A packing is a record: how codes of several bits share a word, and which codes share one. One function packs, one
// unpacks, in TypeScript (the oracle) and in C++ (native/kernels/pack/pack.cc, the product).
import { BugError } from '../core/errors.ts'
import type { QuantizerKernels } from '../core/kernels.ts'

/**
 * Codes are seen as a matrix [R, C]. `order` says which codes share a word:
 * - `neighbours`: word (r, c) holds codes (r, c*slots + s): AWQ, bitsandbytes (R = 1, over the flat tensor);
 * - `split-rows`: word (r, c) holds codes (s*step + r, c), step = ceil(R/slots): HQQ, Quanto. Missing rows are 0.
 * Slot s lies at bit `shifts[s]` of the word.
 */
export interface Packing {
  readonly name: string
  readonly bits: number
  readonly word: 'U8' | 'I32'
  readonly order: 'neighbours' | 'split-rows'
  readonly shifts: readonly number[]
}

/** Every packing that a registered method uses, by name. */
export const PACKINGS = {
  bnb4: { name: 'bnb4', bits: 4, word: 'U8', order: 'neighbours', shifts: [4, 0] },
  hqq8: { name: '8bit_u8', bits: 8, word: 'U8', order: 'split-rows', shifts: [0] },
  hqq4: { name: '4bit_u8', bits: 4, word: 'U8', order: 'split-rows', shifts: [4, 0] },
  hqq2: { name: '2bit_u8', bits: 2, word: 'U8', order: 'split-rows', shifts: [6, 4, 2, 0] },
  hqq1: { name: '1bit_u8', bits: 1, word: 'U8', order: 'split-rows', shifts: [7, 6, 5, 4, 3, 2, 1, 0] },
  hqq3: { name: '3bit_32', bits: 3, word: 'I32', order: 'split-rows', shifts: [27, 24, 21, 18, 15, 12, 9, 6, 3, 0] },
} as const satisfies Record<string, Packing>

/** Rows and columns of the words that hold an [rows, columns] matrix of codes. */
export function packedShape(packing: Packing, rows: number, columns: number): [number, number] {
  const slots = packing.shifts.length
  return packing.order === 'neighbours' ? [rows, Math.ceil(columns / slots)] : [Math.ceil(rows / slots), columns]
}

/** Bytes of the packed matrix. */
export function packedBytes(packing: Packing, rows: number, columns: number): number {
  const [r, c] = packedShape(packing, rows, columns)
  return r * c * (packing.word === 'U8' ? 1 : 4)
}

/** Index in the code matrix of slot s of word (r, c), or -1 for padding. */
function codeIndex(
  packing: Packing,
  rows: number,
  columns: number,
  step: number,
  r: number,
  c: number,
  s: number,
): number {
  if (packing.order === 'neighbours') {
    const column = c * packing.shifts.length + s
    return column < columns ? r * columns + column : -1
  }
  const row = s * step + r
  return row < rows ? row * columns + c : -1
}

/** Packs codes [rows, columns] (one a byte) into words; little-endian bytes. `padCode` fills slots without a code. */
export function pack(packing: Packing, codes: Uint8Array, rows: number, columns: number, padCode = 0): Uint8Array {
  if (codes.length !== rows * columns) throw new BugError(`pack: ${codes.length} codes for ${rows} x ${columns}`)
  const [wordRows, wordColumns] = packedShape(packing, rows, columns)
  const words = packing.word === 'U8' ? new Uint8Array(wordRows * wordColumns) : new Int32Array(wordRows * wordColumns)
  for (let r = 0; r < wordRows; r++) {
    for (let c = 0; c < wordColumns; c++) {
      let word = 0
      for (let s = 0; s < packing.shifts.length; s++) {
        const i = codeIndex(packing, rows, columns, wordRows, r, c, s)
        word |= (i < 0 ? padCode : codes[i]) << packing.shifts[s]
      }
      words[r * wordColumns + c] = word
    }
  }
  return new Uint8Array(words.buffer)
}

/** Reverses `pack`: one code a byte, [rows, columns]. */
export function unpack(packing: Packing, packed: Uint8Array, rows: number, columns: number): Uint8Array {
  const [wordRows, wordColumns] = packedShape(packing, rows, columns)
  if (packed.byteLength !== packedBytes(packing, rows, columns)) {
    throw new BugError(`unpack: ${packed.byteLength} bytes for ${rows} x ${columns} codes of ${packing.name}`)
  }
  const bytes = packing.word === 'U8' || packed.byteOffset % 4 === 0 ? packed : packed.slice()
  const words = packing.word === 'U8' ? bytes : new Int32Array(bytes.buffer, bytes.byteOffset, wordRows * wordColumns)
  const mask = (1 << packing.bits) - 1
  const codes = new Uint8Array(rows * columns)
  for (let r = 0; r < wordRows; r++) {
    for (let c = 0; c < wordColumns; c++) {
      const word = words[r * wordColumns + c]
      for (let s = 0; s < packing.shifts.length; s++) {
        const i = codeIndex(packing, rows, columns, wordRows, r, c, s)
        if (i >= 0) codes[i] = (word >>> packing.shifts[s]) & mask
      }
    }
  }
  return codes
}

/** Words that one unit of a kernel packs or unpacks: small enough to share among threads. */
const WORDS_A_UNIT = 4096

/** Parameters of the kernels, or undefined where rows of neighbours end inside a word (no registered method has such). */
function kernelParams(packing: Packing, rows: number, columns: number, padCode: number): number[] | undefined {
  const slots = packing.shifts.length
  const neighbours = packing.order === 'neighbours'
  if (neighbours && rows > 1 && columns % slots !== 0) return undefined
  const [wordRows, wordColumns] = packedShape(packing, rows, columns)
  const words = wordRows * wordColumns
  const shape = [Math.ceil(words / WORDS_A_UNIT), WORDS_A_UNIT, rows * columns, words, slots]
  return [...shape, neighbours ? 1 : 0, packing.bits, padCode, ...packing.shifts]
}

const suffixOf = (packing: Packing) => (packing.word === 'U8' ? 'u8' : 'i32')

/** As `pack`, by `kernels` where they are given. */
export async function packCodes(
  packing: Packing,
  codes: Uint8Array,
  rows: number,
  columns: number,
  options: { readonly padCode?: number; readonly kernels?: QuantizerKernels } = {},
): Promise<Uint8Array> {
  const { padCode = 0, kernels } = options
  const params = kernels && kernelParams(packing, rows, columns, padCode)
  if (!params) return pack(packing, codes, rows, columns, padCode)
  const bytes = packedBytes(packing, rows, columns)
  const [packed] = await kernels.run(`fb_pack_${suffixOf(packing)}`, [codes], [{ bytes }], params)
  return new Uint8Array(packed)
}

/** As `unpack`, by `kernels` where they are given. */
export async function unpackCodes(
  packing: Packing,
  packed: Uint8Array,
  rows: number,
  columns: number,
  kernels?: QuantizerKernels,
): Promise<Uint8Array> {
  const params = kernels && kernelParams(packing, rows, columns, 0)
  if (!params) return unpack(packing, packed, rows, columns)
  const [codes] = await kernels.run(`fb_unpack_${suffixOf(packing)}`, [packed], [{ bytes: rows * columns }], params)
  return new Uint8Array(codes)
}
