// A packing is a record: how codes of several bits share a word, and which codes share one. One function packs, one
// unpacks, in TypeScript (the oracle) and in C++ (native/kernels/pack/pack.cc, the product).
import { BugError, UsageError } from '../core/errors.ts'
import type { QuantizerKernels } from '../core/kernels.ts'

/**
 * Codes are seen as a matrix [R, C]. `order` says which codes share a word:
 * - `neighbours`: word (r, c) holds codes (r, c*slots + s): bitsandbytes (R = 1, over the flat tensor), AWQ's gemv;
 * - `split-rows`: word (r, c) holds codes (s*step + r, c), step = ceil(R/slots): HQQ, Quanto. Missing rows are 0;
 * - `nested`: `axes` are the loops, outermost first, that meet the codes in the order of words and slots: EETQ, AWQ.
 * Slot s lies at bit `shifts[s]` of the word.
 * - `column-stream`: no slots; each column is a run of bits without gaps, low first, from word to word, and begins a word: AWQ's other widths.
 */
export interface Packing {
  readonly name: string
  readonly bits: number
  readonly word: 'U8' | 'I16' | 'I32'
  readonly order: 'neighbours' | 'split-rows' | 'nested' | 'column-stream'
  readonly shifts: readonly number[]
  readonly axes?: readonly PackingAxis[]
}

/** A loop of a nested order: `count` steps of `step` along an axis of the matrix; without `count`, to the axis's end. */
export interface PackingAxis {
  readonly axis: 'row' | 'column'
  readonly step: number
  readonly count?: number
}

/** Every packing that a registered method uses, by name. */
export const PACKINGS = {
  bnb4: { name: 'bnb4', bits: 4, word: 'U8', order: 'neighbours', shifts: [4, 0] },
  hqq8: { name: '8bit_u8', bits: 8, word: 'U8', order: 'split-rows', shifts: [0] },
  hqq4: { name: '4bit_u8', bits: 4, word: 'U8', order: 'split-rows', shifts: [4, 0] },
  hqq2: { name: '2bit_u8', bits: 2, word: 'U8', order: 'split-rows', shifts: [6, 4, 2, 0] },
  hqq1: { name: '1bit_u8', bits: 1, word: 'U8', order: 'split-rows', shifts: [7, 6, 5, 4, 3, 2, 1, 0] },
  hqq3: { name: '3bit_32', bits: 3, word: 'I32', order: 'split-rows', shifts: [27, 24, 21, 18, 15, 12, 9, 6, 3, 0] },
  quanto4: { name: 'quanto4', bits: 4, word: 'U8', order: 'split-rows', shifts: [0, 4] },
  quanto2: { name: 'quanto2', bits: 2, word: 'U8', order: 'split-rows', shifts: [0, 2, 4, 6] },
  // Codes [N, K] + 128 in memory of compute capability 7.5 to 8.9: two rows side by side in tiles of 64 columns, and in each run of 16
  // columns the order 0 8 1 9 2 10 ...; of 7.0 to 7.4: transposed, rows 1 and 2 of every four swapped.
  eetqSm80: {
    name: 'sm80',
    bits: 8,
    word: 'U8',
    order: 'nested',
    shifts: [0],
    axes: [
      { axis: 'row', step: 2 },
      { axis: 'column', step: 64 },
      { axis: 'row', step: 1, count: 2 },
      { axis: 'column', step: 16, count: 4 },
      { axis: 'column', step: 1, count: 8 },
      { axis: 'column', step: 8, count: 2 },
    ],
  },
  eetqSm70: {
    name: 'sm70',
    bits: 8,
    word: 'U8',
    order: 'nested',
    shifts: [0],
    axes: [
      { axis: 'column', step: 1 },
      { axis: 'row', step: 4 },
      { axis: 'row', step: 1, count: 2 },
      { axis: 'row', step: 2, count: 2 },
    ],
  },
  // Codes [N, K]. gemm: words [K, N/8]; gemv_fast and llm-awq: words [N/4, K], four rows and 64 columns interleaved.
  awqGemm: {
    name: 'awq-gemm',
    bits: 4,
    word: 'I32',
    order: 'nested',
    shifts: [0, 16, 4, 20, 8, 24, 12, 28],
    axes: [
      { axis: 'column', step: 1 },
      { axis: 'row', step: 8 },
      { axis: 'row', step: 1, count: 8 },
    ],
  },
  // Words [K, N bits / 32]: gptqmodel's gemm of other widths than 4.
  awqGemm2: { name: 'awq-gemm-2', bits: 2, word: 'I32', order: 'column-stream', shifts: [] },
  awqGemm3: { name: 'awq-gemm-3', bits: 3, word: 'I32', order: 'column-stream', shifts: [] },
  awqGemm8: { name: 'awq-gemm-8', bits: 8, word: 'I32', order: 'column-stream', shifts: [] },
  awqGemv: { name: 'awq-gemv', bits: 4, word: 'I32', order: 'neighbours', shifts: [0, 4, 8, 12, 16, 20, 24, 28] },
  awqGemvFast: {
    name: 'awq-gemv-fast',
    bits: 4,
    word: 'I16',
    order: 'nested',
    shifts: [0, 4, 8, 12],
    axes: [
      { axis: 'row', step: 4 },
      { axis: 'column', step: 64 },
      { axis: 'row', step: 1, count: 4 },
      { axis: 'column', step: 32, count: 2 },
      { axis: 'column', step: 1, count: 8 },
      { axis: 'column', step: 8, count: 4 },
    ],
  },
} as const satisfies Record<string, Packing>

/** Bytes of a word. */
const WORD_BYTES = { U8: 1, I16: 2, I32: 4 } as const

const registered: Packing[] = Object.values(PACKINGS)

/** Every packing, in the order of registration. */
export function packings(): readonly Packing[] {
  return registered
}

/**
 * Adds a packing of one's own: `pack` and `unpack` take it, and the conformance suite walks it. Throws UsageError where the name is
 * taken, slots overlap or leave the word, or a nested order has no loops.
 */
export function registerPacking(packing: Packing): Packing {
  const { name, bits, word, order, shifts, axes = [] } = packing
  const wordBits = 8 * WORD_BYTES[word]
  const refuse = (problem: string): never => {
    throw new UsageError(`Cannot register packing "${name}": ${problem}`, { packing: name })
  }
  if (registered.some((other) => other.name === name)) refuse('the name is taken')
  if (!Number.isInteger(bits) || bits < 1 || bits > 8) refuse(`its codes have ${bits} bits, expected 1 to 8`)
  const sorted = [...shifts].sort((a, b) => a - b)
  const hasSlots = order !== 'column-stream'
  if (hasSlots !== sorted.length > 0) refuse('a stream, and no other order, has no slots')
  if (sorted[0] < 0 || sorted[sorted.length - 1] + bits > wordBits)
    refuse(`slots of ${bits} bits at ${shifts.join(', ')} do not lie in a word of ${wordBits} bits`)
  if (sorted.some((shift, i) => i > 0 && shift < sorted[i - 1] + bits)) refuse('two slots overlap')
  if ((order === 'nested') !== axes.length > 0) refuse('a nested order, and no other, has axes')
  registered.push(packing)
  return packing
}

/** Words that one column of a stream takes. */
function streamWords({ bits, word }: Packing, rows: number): number {
  return Math.ceil((rows * bits) / (8 * WORD_BYTES[word]))
}

/** Rows and columns of the words that hold an [rows, columns] matrix of codes; a nested packing's are flat. */
export function packedShape(packing: Packing, rows: number, columns: number): [number, number] {
  const slots = packing.shifts.length
  if (packing.order === 'column-stream') return [columns, streamWords(packing, rows)]
  if (packing.order === 'nested') return slots === 1 ? [rows, columns] : [1, (rows * columns) / slots]
  return packing.order === 'neighbours' ? [rows, Math.ceil(columns / slots)] : [Math.ceil(rows / slots), columns]
}

/** Bytes of the packed matrix. */
export function packedBytes(packing: Packing, rows: number, columns: number): number {
  const [r, c] = packedShape(packing, rows, columns)
  return r * c * WORD_BYTES[packing.word]
}

/** What rows and columns must be multiples of. */
export function packingUnit({ axes = [] }: Packing): { readonly rows: number; readonly columns: number } {
  const unit = (axis: 'row' | 'column') => axes.find((a) => a.axis === axis && a.count === undefined)?.step ?? 1
  return { rows: unit('row'), columns: unit('column') }
}

/** A loop of a nested packing: how often, and how far apart in the code matrix. */
interface Loop {
  readonly count: number
  readonly distance: number
}

function nestedLoops({ name, axes = [] }: Packing, rows: number, columns: number): Loop[] {
  const loops = axes.map(({ axis, step, count }) => ({
    count: count ?? (axis === 'row' ? rows : columns) / step,
    distance: step * (axis === 'row' ? columns : 1),
  }))
  if (loops.reduce((words, { count }) => words * count, 1) !== rows * columns || loops.some((l) => l.count % 1 !== 0))
    throw new BugError(`${rows} x ${columns} codes do not fit the packing ${name}`)
  return loops
}

/** Index in the code matrix of each word of a nested packing. */
function nestedOrder(packing: Packing, rows: number, columns: number): Uint32Array {
  let order = Uint32Array.of(0)
  for (const { count, distance } of nestedLoops(packing, rows, columns)) {
    const next = new Uint32Array(order.length * count)
    for (let i = 0; i < next.length; i++) next[i] = order[Math.floor(i / count)] + (i % count) * distance
    order = next
  }
  return order
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

const WORDS = { U8: Uint8Array, I16: Int16Array, I32: Int32Array } as const

/** How a nested packing puts codes into words, once they are in its order. */
function sequence(packing: Packing): Packing {
  return { ...packing, order: 'neighbours', axes: undefined }
}

/** Packs codes [rows, columns] (one a byte) into words; little-endian bytes. `padCode` fills slots without a code. */
export function pack(packing: Packing, codes: Uint8Array, rows: number, columns: number, padCode = 0): Uint8Array {
  if (codes.length !== rows * columns) throw new BugError(`pack: ${codes.length} codes for ${rows} x ${columns}`)
  if (packing.order === 'nested') {
    const inOrder = Uint8Array.from(nestedOrder(packing, rows, columns), (i) => codes[i])
    return packing.shifts.length === 1 ? inOrder : pack(sequence(packing), inOrder, 1, inOrder.length)
  }
  if (packing.order === 'column-stream') return packStream(packing, codes, rows, columns)
  const [wordRows, wordColumns] = packedShape(packing, rows, columns)
  const words = new WORDS[packing.word](wordRows * wordColumns)
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
  if (packing.order === 'nested') {
    const inOrder = packing.shifts.length === 1 ? packed : unpack(sequence(packing), packed, 1, rows * columns)
    const codes = new Uint8Array(rows * columns)
    nestedOrder(packing, rows, columns).forEach((code, word) => {
      codes[code] = inOrder[word]
    })
    return codes
  }
  if (packing.order === 'column-stream') return unpackStream(packing, packed, rows, columns)
  const bytes = packed.byteOffset % WORD_BYTES[packing.word] === 0 ? packed : packed.slice()
  const words = new WORDS[packing.word](bytes.buffer as ArrayBuffer, bytes.byteOffset, wordRows * wordColumns)
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

/** Little-endian words that follow one another are little-endian bytes that do: a code lies in one byte or two. */
function packStream(packing: Packing, codes: Uint8Array, rows: number, columns: number): Uint8Array {
  const out = new Uint8Array(packedBytes(packing, rows, columns))
  const { bits } = packing
  const columnBytes = out.length / columns
  for (let c = 0; c < columns; c++) {
    for (let r = 0; r < rows; r++) {
      const at = c * columnBytes + ((r * bits) >> 3)
      const placed = codes[r * columns + c] << ((r * bits) & 7)
      out[at] |= placed
      if (placed > 255) out[at + 1] |= placed >> 8
    }
  }
  return out
}

function unpackStream(packing: Packing, packed: Uint8Array, rows: number, columns: number): Uint8Array {
  const codes = new Uint8Array(rows * columns)
  const { bits } = packing
  const columnBytes = packed.length / columns
  for (let c = 0; c < columns; c++) {
    for (let r = 0; r < rows; r++) {
      const at = c * columnBytes + ((r * bits) >> 3)
      // The byte behind the last one is not read for the code that ends in it: its bits are masked away.
      const both = packed[at] | ((packed[at + 1] ?? 0) << 8)
      codes[r * columns + c] = (both >> ((r * bits) & 7)) & ((1 << bits) - 1)
    }
  }
  return codes
}

/** Words that one unit of a kernel packs or unpacks: small enough to share among threads. */
const WORDS_A_UNIT = 4096

/** A kernel and its parameters. */
interface KernelCall {
  readonly suffix: string
  readonly params: number[]
}

/** Codes of the inner loops that a kernel has room for. */
const MAX_NESTED_BLOCK = 4096

/** The loops whose number of steps does not depend on the shape, innermost: the kernel makes a table of them. */
function nestedCall(packing: Packing, rows: number, columns: number): KernelCall | undefined {
  const loops = nestedLoops(packing, rows, columns)
  const inner = packing.axes!.length - 1 - packing.axes!.findLastIndex((axis) => axis.count === undefined)
  const block = loops.slice(loops.length - inner).reduce((words, { count }) => words * count, 1)
  if (block > MAX_NESTED_BLOCK) return undefined
  const blocks = (rows * columns) / block
  const blocksAUnit = Math.ceil(WORDS_A_UNIT / block)
  const shape = [Math.ceil(blocks / blocksAUnit), blocksAUnit, blocks, loops.length - inner, inner]
  return { suffix: 'nested', params: [...shape, ...loops.flatMap(({ count, distance }) => [count, distance])] }
}

/** The kernel for a packing, or undefined where rows of neighbours end inside a word (no registered method has such). */
function kernelCall(packing: Packing, rows: number, columns: number, padCode: number): KernelCall | undefined {
  if (packing.order === 'nested') return nestedCall(packing, rows, columns)
  if (packing.order === 'column-stream') {
    const columnBytes = packedBytes(packing, rows, columns) / columns
    return { suffix: 'stream', params: [columns, rows, columnBytes, packing.bits] }
  }
  const slots = packing.shifts.length
  const neighbours = packing.order === 'neighbours'
  if (neighbours && rows > 1 && columns % slots !== 0) return undefined
  const [wordRows, wordColumns] = packedShape(packing, rows, columns)
  const words = wordRows * wordColumns
  const shape = [Math.ceil(words / WORDS_A_UNIT), WORDS_A_UNIT, rows * columns, words, slots]
  return {
    suffix: packing.word.toLowerCase(),
    params: [...shape, neighbours ? 1 : 0, packing.bits, padCode, ...packing.shifts],
  }
}

/** As `pack`, by `kernels` where they are given. */
export async function packCodes(
  packing: Packing,
  codes: Uint8Array,
  rows: number,
  columns: number,
  options: { readonly padCode?: number; readonly kernels?: QuantizerKernels } = {},
): Promise<Uint8Array> {
  const { padCode = 0, kernels } = options
  const call = kernels && kernelCall(packing, rows, columns, padCode)
  if (!call) return pack(packing, codes, rows, columns, padCode)
  const bytes = call.suffix === 'nested' ? codes.length : packedBytes(packing, rows, columns)
  const [packed] = await kernels.run(`fb_pack_${call.suffix}`, [codes], [{ bytes }], call.params)
  const words = new Uint8Array(packed)
  if (call.suffix !== 'nested' || packing.shifts.length === 1) return words
  return packCodes(sequence(packing), words, 1, words.length, options)
}

/** As `unpack`, by `kernels` where they are given. */
export async function unpackCodes(
  packing: Packing,
  packed: Uint8Array,
  rows: number,
  columns: number,
  kernels?: QuantizerKernels,
): Promise<Uint8Array> {
  const call = kernels && kernelCall(packing, rows, columns, 0)
  if (!call) return unpack(packing, packed, rows, columns)
  const isSequence = call.suffix === 'nested' && packing.shifts.length > 1
  const inOrder = isSequence ? await unpackCodes(sequence(packing), packed, 1, rows * columns, kernels) : packed
  const [codes] = await kernels.run(`fb_unpack_${call.suffix}`, [inOrder], [{ bytes: rows * columns }], call.params)
  return new Uint8Array(codes)
}
