// GGUF header: magic, version, counts, key-values, tensor table. Versions 2 and 3, the latter in both byte orders. Every promise of the
// header is checked against the size of the file before a tensor is touched; nothing is allocated from a count alone.
import type { ByteSource, StoredTensor } from '../types.ts'
import { GgufCursor } from './cursor.ts'
import {
  GGUF_TYPE_IDS,
  type GgufArray,
  type GgufBigType,
  type GgufMetadata,
  type GgufNumberType,
  type GgufScalar,
  type GgufType,
  type GgufValue,
  isGgufNumberType,
} from './metadata.ts'
import { ggmlBytes, ggmlTypeOf, padded } from './types.ts'

/** Real files have below 100 keys and (experts stacked) below 5,000 tensors. */
const MAX_KEYS = 65_536
const MAX_TENSORS = 1_000_000
/** ggml's own GGML_MAX_DIMS. */
const MAX_DIMENSIONS = 4
/** The format allows 65,535 bytes. */
const MAX_KEY_LENGTH = 65_535
/** ggml takes 63 bytes; some forks take more. */
const MAX_NAME_LENGTH = 255
/** llama.cpp refuses nested arrays; gguf-py writes them. */
const MAX_ARRAY_DEPTH = 4
const MAX_NESTED_ARRAYS = 100_000
const DEFAULT_ALIGNMENT = 32
const MAX_ALIGNMENT = 1 << 20

const MAGIC = 0x46554747 // "GGUF", read little

export interface GgufHeader {
  readonly version: 2 | 3
  readonly bigEndian: boolean
  readonly alignment: number
  readonly metadata: GgufMetadata
  /** In table order; `offset` counts from the start of the file. */
  readonly tensors: readonly StoredTensor[]
  readonly dataStart: number
  readonly warnings: readonly string[]
}

const TYPES = new Map(Object.entries(GGUF_TYPE_IDS).map(([name, id]) => [id, name as GgufType]))
/** Smallest encoding of one element, to check a count against the bytes that are left. */
const LEAST_BYTES: Readonly<Record<GgufType, number>> = {
  u8: 1,
  i8: 1,
  bool: 1,
  u16: 2,
  i16: 2,
  u32: 4,
  i32: 4,
  f32: 4,
  u64: 8,
  i64: 8,
  f64: 8,
  string: 8,
  array: 12,
}

/** Reads and checks the header of one file. Throws FileError naming the broken rule. */
export async function readGgufHeader(source: ByteSource): Promise<GgufHeader> {
  return new HeaderReader(source).header()
}

class HeaderReader {
  private readonly cursor: GgufCursor
  private bigEndian = false

  constructor(source: ByteSource) {
    this.cursor = new GgufCursor(source, () => !this.bigEndian)
  }

  async header(): Promise<GgufHeader> {
    const { cursor } = this
    const version = await cursor.item(() => this.version())
    const [tensorCount, keyCount] = await cursor.item(() => [
      cursor.count('the number of tensors'),
      cursor.count('the number of keys'),
    ])
    if (tensorCount > MAX_TENSORS)
      cursor.fail(`it claims ${tensorCount} tensors, the limit is ${MAX_TENSORS}`, { actual: tensorCount })
    if (keyCount > MAX_KEYS) cursor.fail(`it claims ${keyCount} keys, the limit is ${MAX_KEYS}`, { actual: keyCount })
    const metadata = new Map<string, GgufValue>()
    for (let i = 0; i < keyCount; i++) {
      const [key, value] = await cursor.item(() => this.keyValue(metadata))
      metadata.set(key, value)
    }
    const table = new Map<string, TableEntry>()
    for (let i = 0; i < tensorCount; i++) {
      const entry = await cursor.item(() => this.tableEntry(table))
      table.set(entry.name, entry)
    }
    const named = this.alignment(metadata)
    const entries = [...table.values()]
    const alignment = this.fitsDefault(entries, named) ? DEFAULT_ALIGNMENT : named
    const dataStart = padded(cursor.at, alignment)
    const tensors = entries.map((entry) => this.placed(entry, dataStart, alignment))
    this.checkOverlaps(tensors)
    const warnings =
      alignment === named
        ? []
        : [
            `"general.alignment" of "${cursor.source.name}" is ${named}, its data is aligned to ${alignment} (llama-quantize)`,
          ]
    return { version, bigEndian: this.bigEndian, alignment, metadata, tensors, dataStart, warnings }
  }

  private version(): 2 | 3 {
    const { cursor } = this
    this.bigEndian = false
    if (cursor.left < 24) cursor.fail(`the file has ${cursor.source.size} bytes, a header needs at least 24`)
    const magic = cursor.u32('the magic')
    if (magic !== MAGIC) cursor.fail('it does not begin with the letters GGUF', { actual: magic })
    let version = cursor.u32('the version')
    if ((version & 0xffff) === 0 && version !== 0) {
      this.bigEndian = true
      cursor.at -= 4
      version = cursor.u32('the version')
    }
    if (version === 1) {
      cursor.fail('it is version v1, which no current program reads', {
        actual: 1,
        hint: 'make the file again with a current converter',
      })
    }
    if (version === 2 && !this.bigEndian) return 2
    if (version === 3) return 3
    return cursor.fail(`it has the unknown version ${version}; known are v2 and v3`, { actual: version })
  }

  private keyValue(known: GgufMetadata): [string, GgufValue] {
    const { cursor } = this
    const { text: key, lossy } = cursor.text('a key')
    if (lossy || key === '' || key.length > MAX_KEY_LENGTH)
      cursor.fail(key === '' ? 'a key is empty' : 'a key is too long or not UTF-8')
    if (known.has(key)) cursor.fail(`the key "${key}" occurs twice`, { key })
    const type = this.type(key)
    return [key, type === 'array' ? this.array(key, 1, { arrays: 0 }) : this.scalar(type, key)]
  }

  private type(key: string): GgufType {
    const id = this.cursor.u32(`the type of key "${key}"`)
    return TYPES.get(id) ?? this.cursor.fail(`the key "${key}" has the unknown value type ${id}`, { key, actual: id })
  }

  private scalar(type: Exclude<GgufType, 'array'>, key: string): GgufScalar {
    const { cursor } = this
    const what = `the value of key "${key}"`
    const start = cursor.at
    switch (type) {
      case 'bool':
        return { type, value: cursor.raw(1, what)[0] !== 0 }
      case 'string': {
        const { text, lossy } = cursor.text(what)
        return lossy ? { type, value: text, raw: this.littleString(start) } : { type, value: text }
      }
      case 'u64':
      case 'i64':
        return { type, value: cursor.number(type, what) as bigint }
      default: {
        const numbers = cursor.numbers(type, 1, what)
        const value = numbers[0] as number
        return Number.isNaN(value) ? { type, value, raw: new Uint8Array(numbers.buffer) } : { type, value }
      }
    }
  }

  /** The string from `start` to the cursor as a little-endian file holds it. */
  private littleString(start: number): Uint8Array {
    const { cursor } = this
    const length = cursor.at - start
    cursor.at = start
    const bytes = cursor.raw(length, 'a string').slice()
    if (this.bigEndian) bytes.subarray(0, 8).reverse()
    return bytes
  }

  private array(key: string, depth: number, spent: { arrays: number }): GgufArray {
    const { cursor } = this
    const element = this.type(key)
    const count = cursor.count(`the length of the array "${key}"`)
    if (count * LEAST_BYTES[element] > cursor.left) {
      cursor.fail(
        `the array "${key}" claims ${count} elements of type ${element}, the file has ${cursor.left} bytes left`,
        { key, expected: count * LEAST_BYTES[element], actual: cursor.left },
      )
    }
    if (isGgufNumberType(element)) return this.numbers(key, element, count)
    if (element === 'string') return this.strings(key, count)
    if (element === 'bool') {
      const bytes = cursor.raw(count, `the array "${key}"`)
      return { type: 'array', element, value: Array.from(bytes, (byte) => byte !== 0) }
    }
    if (depth >= MAX_ARRAY_DEPTH) cursor.fail(`the array "${key}" is nested deeper than ${MAX_ARRAY_DEPTH}`, { key })
    spent.arrays += count
    if (spent.arrays > MAX_NESTED_ARRAYS)
      cursor.fail(`the array "${key}" holds more than ${MAX_NESTED_ARRAYS} arrays`, { key, actual: count })
    const value: GgufArray[] = []
    for (let i = 0; i < count; i++) value.push(this.array(key, depth + 1, spent))
    return { type: 'array', element: 'array', value }
  }

  private numbers(key: string, element: GgufNumberType | GgufBigType, count: number): GgufArray {
    return { type: 'array', element, value: this.cursor.numbers(element, count, `the array "${key}"`) }
  }

  private strings(key: string, count: number): GgufArray {
    const { cursor } = this
    const start = cursor.at
    const value: string[] = []
    let lossy = false
    for (let i = 0; i < count; i++) {
      const decoded = cursor.text(`the array "${key}"`)
      value.push(decoded.text)
      lossy ||= decoded.lossy
    }
    if (!lossy) return { type: 'array', element: 'string', value }
    const length = cursor.at - start
    const raw = new Uint8Array(12 + length)
    const view = new DataView(raw.buffer)
    view.setUint32(0, GGUF_TYPE_IDS.string, true)
    view.setBigUint64(4, BigInt(count), true)
    cursor.at = start
    raw.set(cursor.raw(length, `the array "${key}"`), 12)
    if (this.bigEndian) reverseLengths(raw.subarray(12))
    return { type: 'array', element: 'string', value, raw }
  }

  private alignment(metadata: GgufMetadata): number {
    const value = metadata.get('general.alignment')
    if (!value) return DEFAULT_ALIGNMENT
    if (value.type !== 'u32') return this.cursor.fail(`"general.alignment" is ${value.type}, expected u32`)
    const bytes = value.value
    if (bytes === 0 || (bytes & (bytes - 1)) !== 0 || bytes > MAX_ALIGNMENT)
      this.cursor.fail(`"general.alignment" is ${bytes}, expected a power of two up to ${MAX_ALIGNMENT}`, {
        actual: bytes,
      })
    return bytes
  }

  /** llama-quantize keeps the key of its input but aligns to 32: such a file is known by its length. */
  private fitsDefault(entries: readonly TableEntry[], named: number): boolean {
    if (named <= DEFAULT_ALIGNMENT || entries.length === 0) return false
    const { at, source } = this.cursor
    const fits = (alignment: number) => {
      let end = padded(at, alignment)
      for (const { name, type, dims } of entries) {
        const row = ggmlTypeOf(type, source.name, name)
        end += padded(
          ggmlBytes(
            row,
            dims.reduce((a, b) => a * b, 1),
            dims[0] ?? 1,
          ) ?? Number.NaN,
          alignment,
        )
      }
      return end === source.size
    }
    return fits(DEFAULT_ALIGNMENT) && !fits(named)
  }

  private tableEntry(known: ReadonlyMap<string, TableEntry>): TableEntry {
    const { cursor } = this
    const { text: name, lossy } = cursor.text("a tensor's name")
    if (lossy || name === '' || name.length > MAX_NAME_LENGTH)
      cursor.fail(`a tensor's name is empty, longer than ${MAX_NAME_LENGTH} characters or not UTF-8`)
    if (known.has(name)) cursor.fail(`the tensor "${name}" occurs twice`, { tensor: name })
    const rank = cursor.u32(`the rank of tensor "${name}"`)
    if (rank > MAX_DIMENSIONS)
      cursor.fail(`tensor "${name}" has ${rank} dimensions, the limit is ${MAX_DIMENSIONS}`, { tensor: name })
    const dims: number[] = []
    for (let i = 0; i < rank; i++) dims.push(cursor.count(`a dimension of tensor "${name}"`))
    const type = cursor.u32(`the type of tensor "${name}"`)
    return { name, dims, type, offset: cursor.count(`the offset of tensor "${name}"`) }
  }

  private placed(entry: TableEntry, dataStart: number, alignment: number): StoredTensor {
    const { cursor } = this
    const file = cursor.source.name
    const { name, dims } = entry
    const type = ggmlTypeOf(entry.type, file, name)
    let elements = 1
    for (const n of dims) {
      elements *= n
      if (!Number.isSafeInteger(elements))
        cursor.fail(`tensor "${name}" of shape [${dims}] has too many elements`, { tensor: name, shape: dims })
    }
    const bytes = ggmlBytes(type, elements, dims[0] ?? 1)
    if (bytes === undefined || !Number.isSafeInteger(bytes)) {
      return cursor.fail(
        `tensor "${name}" is ${type.name} with rows of ${dims[0] ?? 1} elements, expected a multiple of ${type.elements}`,
        { tensor: name, expected: type.elements, actual: dims[0] ?? 1 },
      )
    }
    if (entry.offset % alignment !== 0)
      cursor.fail(`tensor "${name}" lies at offset ${entry.offset}, no multiple of ${alignment}`, {
        tensor: name,
        offset: entry.offset,
        expected: alignment,
      })
    const offset = dataStart + entry.offset
    if (offset + bytes > cursor.source.size) {
      cursor.fail(`tensor "${name}" ends at byte ${offset + bytes}, the file has ${cursor.source.size} bytes`, {
        tensor: name,
        offset,
        expected: offset + bytes,
        actual: cursor.source.size,
        hint: 'the download may be incomplete: fetch the file again',
      })
    }
    return { name, dtype: type.name, shape: [...dims].reverse(), file, offset, byteLength: bytes }
  }

  private checkOverlaps(tensors: readonly StoredTensor[]): void {
    let end = 0
    let before = ''
    for (const tensor of [...tensors].sort((a, b) => a.offset - b.offset || a.byteLength - b.byteLength)) {
      if (tensor.offset < end)
        this.cursor.fail(`tensor "${tensor.name}" overlaps tensor "${before}"`, {
          tensor: tensor.name,
          offset: tensor.offset,
          expected: end,
        })
      end = tensor.offset + tensor.byteLength
      before = tensor.name
    }
  }
}

interface TableEntry {
  readonly name: string
  /** Fastest first, as stored. */
  readonly dims: readonly number[]
  readonly type: number
  readonly offset: number
}

/** Turns the length before every string of a run round, in place. */
function reverseLengths(strings: Uint8Array): void {
  const view = new DataView(strings.buffer, strings.byteOffset, strings.byteLength)
  for (let at = 0; at < strings.length; ) {
    const length = Number(view.getBigUint64(at, false))
    strings.subarray(at, at + 8).reverse()
    at += 8 + length
  }
}
