// safetensors: u64 header length, JSON header, tensor bytes. The reader checks every promise of the header against the file before any
// tensor is touched; the writer gives the reference's bytes (order by dtype, then name; header padded with spaces to 8).
import { DTYPE_BYTES, elementCount } from '../core/dtypes.ts'
import { FileError } from '../core/errors.ts'
import { byCodePoint, isJsonObject, type Json, JsonNumber, parseJsonObject } from '../core/json.ts'
import type { ByteSource, StoredTensor } from './types.ts'

/** The reference's own limit: 100 MB of header. */
const MAX_HEADER_BYTES = 100_000_000
/** More tensors than any real file: the largest mixtures of experts have about 100,000. */
const MAX_TENSORS = 2_000_000

/** Bytes of an element: what tensors are made of, and what is only ever copied. */
const ELEMENT_BYTES: ReadonlyMap<string, number> = new Map(
  Object.entries({ ...DTYPE_BYTES, C64: 8, F8_E8M0: 1, F8_E5M2FNUZ: 1, F4: 0.5 }),
)

/** Order of dtypes in files that the reference writes (safetensors 0.8.0, measured). */
const WRITE_ORDER: readonly string[] =
  'U64 I64 F64 C64 F32 U32 I32 BF16 F16 U16 I16 F8_E5M2FNUZ F8_E4M3FNUZ F8_E8M0 F8_E4M3 F8_E5M2 I8 U8 F4 BOOL'.split(
    ' ',
  )

export interface SafetensorsHeader {
  readonly metadata: ReadonlyMap<string, string>
  readonly tensors: readonly StoredTensor[]
}

/** Reads and checks the header of one file. Throws FileError naming the broken rule. */
export async function readSafetensorsHeader(source: ByteSource): Promise<SafetensorsHeader> {
  const file = source.name
  const fail = (problem: string, fields: Record<string, unknown> = {}): never => {
    throw new FileError(`Cannot read "${file}" as safetensors: ${problem}`, { file, ...fields })
  }
  if (source.size < 8) fail(`the file has ${source.size} bytes, a header needs at least 8`, { actual: source.size })
  const head = await source.read(0, 8)
  const length = Number(new DataView(head.buffer, head.byteOffset, 8).getBigUint64(0, true))
  if (length > MAX_HEADER_BYTES)
    fail(`the header claims ${length} bytes, the limit is ${MAX_HEADER_BYTES}`, { actual: length })
  if (8 + length > source.size)
    fail(`the header claims ${length} bytes, the file has ${source.size}`, {
      expected: 8 + length,
      actual: source.size,
    })
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(await source.read(8, length))
  } catch (cause) {
    if (cause instanceof FileError) throw cause
    throw new FileError(`Cannot read "${file}" as safetensors: the header is not UTF-8`, { file, cause })
  }
  const header = parseJsonObject(text, file)
  const metadata = new Map<string, string>()
  const tensors: StoredTensor[] = []
  for (const name of Object.keys(header)) {
    const entry = header[name]
    if (name === '__metadata__') {
      if (!isJsonObject(entry)) fail('"__metadata__" is not an object')
      for (const [key, value] of Object.entries(entry as object)) {
        if (typeof value !== 'string') fail(`"__metadata__" key "${key}" is not a string`)
        metadata.set(key, value as string)
      }
    } else tensors.push(readEntry(name, entry, 8 + length, source, fail))
  }
  if (tensors.length > MAX_TENSORS)
    fail(`it describes ${tensors.length} tensors, the limit is ${MAX_TENSORS}`, { actual: tensors.length })
  checkLayout(tensors, 8 + length, source.size, fail)
  return { metadata, tensors }
}

type Fail = (problem: string, fields?: Record<string, unknown>) => never

function readEntry(name: string, entry: Json, dataStart: number, source: ByteSource, fail: Fail): StoredTensor {
  const where = { tensor: name }
  if (!isJsonObject(entry)) return fail(`tensor "${name}" is not described by an object`, where)
  const dtype = entry.dtype
  const width = typeof dtype === 'string' ? ELEMENT_BYTES.get(dtype) : undefined
  if (typeof dtype !== 'string' || width === undefined)
    return fail(`tensor "${name}" has the unknown dtype ${JSON.stringify(dtype)?.slice(0, 80)}`, where)
  const shape = naturals(entry.shape)
  if (!shape) return fail(`tensor "${name}" has no shape of whole numbers`, where)
  const span = naturals(entry.data_offsets)
  if (span?.length !== 2 || span[1] < span[0]) return fail(`tensor "${name}" has no legal data_offsets`, where)
  const expected = elementCount(shape) * width
  if (!Number.isSafeInteger(expected) || span[1] - span[0] !== expected) {
    return fail(
      `tensor "${name}" is ${dtype} [${shape}] = ${expected} bytes, its data_offsets span ${span[1] - span[0]}`,
      { ...where, expected, actual: span[1] - span[0] },
    )
  }
  if (dataStart + span[1] > source.size) {
    throw new FileError(
      `Cannot read "${source.name}": tensor "${name}" ends at byte ${dataStart + span[1]}, the file has ${source.size} bytes`,
      {
        file: source.name,
        tensor: name,
        expected: dataStart + span[1],
        actual: source.size,
        hint: 'the download may be incomplete: fetch the file again',
      },
    )
  }
  return { name, dtype, shape, file: source.name, offset: dataStart + span[0], byteLength: expected }
}

function naturals(value: Json | undefined): number[] | undefined {
  if (!Array.isArray(value) || value.length > 8) return undefined
  const out = value.map((v) => (v instanceof JsonNumber ? v.value : Number.NaN))
  return out.every((n) => Number.isSafeInteger(n) && n >= 0) ? out : undefined
}

/** The tensors must cover the data section without gaps or overlaps, as the format demands. */
function checkLayout(tensors: readonly StoredTensor[], dataStart: number, size: number, fail: Fail): void {
  let at = dataStart
  for (const t of [...tensors].sort((a, b) => a.offset - b.offset || a.byteLength - b.byteLength)) {
    if (t.offset < at)
      fail(`tensor "${t.name}" overlaps the one before it`, { tensor: t.name, offset: t.offset, expected: at })
    if (t.offset > at)
      fail(`there is a gap of ${t.offset - at} bytes before tensor "${t.name}"`, {
        tensor: t.name,
        offset: t.offset,
        expected: at,
      })
    at = t.offset + t.byteLength
  }
  if (at !== size) fail(`the tensors end at byte ${at}, the file has ${size}`, { expected: at, actual: size })
}

/** What the writer needs to know of a tensor before its bytes exist. */
export interface SafetensorsEntry {
  readonly name: string
  readonly dtype: string
  readonly shape: readonly number[]
}

/** Stored bytes of an entry. */
export function safetensorsBytes(entry: SafetensorsEntry): number {
  return elementCount(entry.shape) * ELEMENT_BYTES.get(entry.dtype)!
}

/** The reference's order: dtype, then name. */
export function safetensorsOrder(a: SafetensorsEntry, b: SafetensorsEntry): number {
  return WRITE_ORDER.indexOf(a.dtype) - WRITE_ORDER.indexOf(b.dtype) || byCodePoint(a.name, b.name)
}

/** Header bytes (length prefix included) of entries in file order, and each one's offset from the file's start. */
export function safetensorsHeader(
  entries: readonly SafetensorsEntry[],
  metadata: ReadonlyMap<string, string>,
): { header: Uint8Array; offsets: number[]; total: number } {
  const parts: string[] = []
  const pairs = [...metadata].map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`)
  if (pairs.length > 0) parts.push(`"__metadata__":{${pairs.join(',')}}`)
  let at = 0
  const offsets: number[] = []
  for (const entry of entries) {
    const bytes = safetensorsBytes(entry)
    parts.push(
      `${JSON.stringify(entry.name)}:{"dtype":"${entry.dtype}","shape":[${entry.shape}],"data_offsets":[${at},${at + bytes}]}`,
    )
    offsets.push(at)
    at += bytes
  }
  const json = new TextEncoder().encode(`{${parts.join(',')}}`)
  const length = Math.ceil(json.length / 8) * 8
  const header = new Uint8Array(8 + length).fill(0x20)
  new DataView(header.buffer).setBigUint64(0, BigInt(length), true)
  header.set(json, 8)
  return { header, offsets: offsets.map((o) => o + header.length), total: header.length + at }
}
