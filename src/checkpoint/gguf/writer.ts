// Bytes of a GGUF header: key-values in the order given, tensor table, padding; and where each tensor's data begins. v3, little-endian.
import { FileError } from '../../core/errors.ts'
import {
  GGUF_NUMBER_ARRAYS,
  GGUF_TYPE_IDS,
  type GgufArray,
  type GgufMetadata,
  type GgufNumberType,
  type GgufValue,
  isGgufNumberType,
} from './metadata.ts'
import { ggmlBytes, ggmlTypeNamed, padded } from './types.ts'

/** ggml reads names of at most 63 bytes. */
const MAX_NAME_BYTES = 63
const DEFAULT_ALIGNMENT = 32

/** What the table says of one tensor. `shape` is row-major; its rank is written as it is. */
export interface GgufEntry {
  readonly name: string
  readonly type: string
  readonly shape: readonly number[]
}

export interface GgufLayout {
  readonly header: Uint8Array
  /** Of each tensor's data, from the start of the file. */
  readonly offsets: readonly number[]
  readonly sizes: readonly number[]
  /** Bytes of the whole file, the padding after the last tensor included. */
  readonly total: number
}

/** Stored size of an entry. Throws FileError where the type is unknown or a row is no multiple of its block. */
export function ggufEntryBytes(entry: GgufEntry): number {
  const type = ggmlTypeNamed(entry.type)
  const elements = entry.shape.reduce((a, b) => a * b, 1)
  const bytes = type && ggmlBytes(type, elements, entry.shape.at(-1) ?? 1)
  if (bytes !== undefined) return bytes
  throw new FileError(`Cannot write "${entry.name}" as ${entry.type} [${entry.shape}]`, {
    tensor: entry.name,
    type: entry.type,
    shape: entry.shape,
    expected: type ? `rows of a multiple of ${type.elements}` : 'a ggml type',
  })
}

/** Lays out a file. The data is aligned as "general.alignment" says. */
export function ggufLayout(metadata: GgufMetadata, entries: readonly GgufEntry[]): GgufLayout {
  const key = metadata.get('general.alignment')
  const alignment = key?.type === 'u32' ? key.value : DEFAULT_ALIGNMENT
  const sizes = entries.map(ggufEntryBytes)
  const starts: number[] = []
  let at = 0
  for (const size of sizes) {
    starts.push(at)
    at += padded(size, alignment)
  }
  const out = new ByteWriter()
  out.raw(new Uint8Array([0x47, 0x47, 0x55, 0x46]))
  out.u32(3)
  out.u64(entries.length)
  out.u64(metadata.size)
  for (const [name, value] of metadata) {
    out.text(name)
    out.u32(GGUF_TYPE_IDS[value.type])
    writeValue(out, value)
  }
  for (const [i, entry] of entries.entries()) writeEntry(out, entry, starts[i])
  out.pad(alignment)
  const header = out.bytes()
  return { header, offsets: starts.map((s) => header.length + s), sizes, total: header.length + at }
}

function writeEntry(out: ByteWriter, entry: GgufEntry, offset: number): void {
  const name = new TextEncoder().encode(entry.name)
  if (name.length > MAX_NAME_BYTES || entry.shape.length > 4) {
    throw new FileError(`Cannot write "${entry.name}" to GGUF: a name has at most ${MAX_NAME_BYTES} bytes, a shape 4`, {
      tensor: entry.name,
      actual: name.length,
    })
  }
  out.u64(name.length)
  out.raw(name)
  out.u32(entry.shape.length)
  for (const n of [...entry.shape].reverse()) out.u64(n)
  out.u32(ggmlTypeNamed(entry.type)!.id)
  out.u64(offset)
}

function writeValue(out: ByteWriter, value: GgufValue): void {
  if (value.raw) out.raw(value.raw)
  else if (value.type === 'array') writeArray(out, value)
  else if (value.type === 'string') out.text(value.value)
  else if (value.type === 'bool') out.raw(Uint8Array.of(value.value ? 1 : 0))
  else if (typeof value.value === 'bigint') out.raw(bytesOf(BigUint64Array.of(BigInt.asUintN(64, value.value))))
  else out.raw(bytesOf(GGUF_NUMBER_ARRAYS[value.type as GgufNumberType].of(value.value)))
}

function writeArray(out: ByteWriter, array: GgufArray): void {
  if (array.raw) {
    out.raw(array.raw)
    return
  }
  out.u32(GGUF_TYPE_IDS[array.element])
  out.u64(array.value.length)
  if (array.element === 'string') for (const text of array.value) out.text(text)
  else if (array.element === 'array') for (const inner of array.value) writeArray(out, inner)
  else if (array.element === 'bool') out.raw(Uint8Array.from(array.value, (b) => (b ? 1 : 0)))
  else if (isGgufNumberType(array.element)) out.raw(bytesOf(array.value))
}

function bytesOf(values: ArrayBufferView): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
}

/** Appends little-endian values to a growing buffer. */
class ByteWriter {
  private buffer = new Uint8Array(4096)
  private length = 0
  private readonly encoder = new TextEncoder()

  private view = new DataView(this.buffer.buffer)

  /** Makes room for `count` bytes at the end. */
  private reserve(count: number): void {
    if (this.length + count <= this.buffer.length) return
    const grown = new Uint8Array(Math.max(this.length + count, this.buffer.length * 2))
    grown.set(this.buffer)
    this.buffer = grown
    this.view = new DataView(grown.buffer)
  }

  /** Appends `count` zeros; returns where they begin. */
  private room(count: number): number {
    this.reserve(count)
    const at = this.length
    this.length += count
    return at
  }

  raw(bytes: Uint8Array): void {
    const at = this.room(bytes.length)
    this.buffer.set(bytes, at)
  }

  u32(value: number): void {
    const at = this.room(4)
    this.view.setUint32(at, value, true)
  }

  u64(value: number): void {
    const at = this.room(8)
    this.view.setUint32(at, value % 2 ** 32, true)
    this.view.setUint32(at + 4, Math.floor(value / 2 ** 32), true)
  }

  /** Encoded in place: a vocabulary is 100,000 short texts. */
  text(value: string): void {
    this.reserve(8 + 3 * value.length)
    const at = this.room(8)
    const { written } = this.encoder.encodeInto(value, this.buffer.subarray(this.length))
    this.length += written
    this.view.setUint32(at, written, true)
  }

  pad(alignment: number): void {
    this.room(padded(this.length, alignment) - this.length)
  }

  bytes(): Uint8Array {
    return this.buffer.slice(0, this.length)
  }
}
