// Where the entries of a zip archive lie: the central directory of archives as torch.save writes them (stored, not compressed; zip64).
// Nothing is unpacked: an entry is a range of the file.
import { FileError } from '../../core/errors.ts'
import type { ByteSource } from '../types.ts'

export interface ZipEntry {
  readonly name: string
  readonly offset: number
  readonly size: number
}

/** A central directory larger than this is no checkpoint's: about a million entries. */
const MAX_DIRECTORY = 128 * 1024 * 1024
const END = 0x06054b50
const END64 = 0x06064b50
const LOCATOR64 = 0x07064b50
const ENTRY = 0x02014b50
const LOCAL = 0x04034b50
const MAX_COMMENT = 0xffff
const ZIP64_FIELD = 1

type Fail = (problem: string, fields?: Record<string, unknown>) => never

/** The entries in the order of the directory. Throws FileError. */
export async function zipEntries(source: ByteSource): Promise<ZipEntry[]> {
  const fail: Fail = (problem, fields = {}) => {
    throw new FileError(`Cannot read "${source.name}": ${problem}`, {
      file: source.name,
      hint: 'the file is damaged or incomplete: download it again',
      ...fields,
    })
  }
  const { offset, size, count } = await directory(source, fail)
  if (size > MAX_DIRECTORY || offset + size > source.size)
    fail(`its directory of ${size} bytes at ${offset} does not fit into ${source.size} bytes`)
  const bytes = await source.read(offset, size)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const found: ZipEntry[] = []
  for (let at = 0; found.length < count; ) {
    if (at + 46 > size || view.getUint32(at, true) !== ENTRY) fail(`entry ${found.length} of its directory is damaged`)
    const [nameLength, extraLength, commentLength] = [28, 30, 32].map((o) => view.getUint16(at + o, true))
    const end = at + 46 + nameLength + extraLength + commentLength
    if (end > size) fail(`entry ${found.length} of its directory is cut off`)
    const name = new TextDecoder().decode(bytes.subarray(at + 46, at + 46 + nameLength))
    if (view.getUint16(at + 10, true) !== 0) fail(`"${name}" in it is compressed`, { entry: name })
    const extra = at + 46 + nameLength
    const place = sizes(view, at, extra, extra + extraLength)
    found.push(await entryAt(source, name, place, fail))
    at = end
  }
  return found
}

async function directory(source: ByteSource, fail: Fail): Promise<{ offset: number; size: number; count: number }> {
  const tailSize = Math.min(source.size, MAX_COMMENT + 22)
  const start = source.size - tailSize
  const tail = await source.read(start, tailSize)
  const view = new DataView(tail.buffer, tail.byteOffset, tail.byteLength)
  let at = tailSize - 22
  while (at >= 0 && view.getUint32(at, true) !== END) at--
  if (at < 0) return fail('it is a zip archive without an end: it is cut off')
  const plain = {
    count: view.getUint16(at + 10, true),
    size: view.getUint32(at + 12, true),
    offset: view.getUint32(at + 16, true),
  }
  if (at < 20 || view.getUint32(at - 20, true) !== LOCATOR64) return plain
  const where = Number(view.getBigUint64(at - 20 + 8, true))
  if (!(where + 56 <= source.size)) return fail('its zip64 directory is not where it says')
  const big = await source.read(where, 56)
  const record = new DataView(big.buffer, big.byteOffset, big.byteLength)
  if (record.getUint32(0, true) !== END64) return fail('its zip64 directory is damaged')
  const [count, size, offset] = [32, 40, 48].map((o) => Number(record.getBigUint64(o, true)))
  return { count, size, offset }
}

/** Size and offset of the local header; both may stand in the zip64 field. */
function sizes(view: DataView, at: number, from: number, to: number): { size: number; local: number } {
  let size = view.getUint32(at + 24, true)
  const packed = view.getUint32(at + 20, true)
  let local = view.getUint32(at + 42, true)
  for (let f = from; f + 4 <= to; f += 4 + view.getUint16(f + 2, true)) {
    if (view.getUint16(f, true) !== ZIP64_FIELD) continue
    let next = f + 4
    const take = () => {
      if (next + 8 > to) return Number.NaN
      next += 8
      return Number(view.getBigUint64(next - 8, true))
    }
    if (size === 0xffffffff) size = take()
    if (packed === 0xffffffff) take()
    if (local === 0xffffffff) local = take()
  }
  return { size, local }
}

async function entryAt(
  source: ByteSource,
  name: string,
  { size, local }: { size: number; local: number },
  fail: Fail,
): Promise<ZipEntry> {
  if (!(local + 30 <= source.size)) return fail(`"${name}" in it begins beyond the end`, { entry: name })
  const header = await source.read(local, 30)
  const view = new DataView(header.buffer, header.byteOffset, 30)
  if (view.getUint32(0, true) !== LOCAL) return fail(`"${name}" in it is not where the directory says`, { entry: name })
  const offset = local + 30 + view.getUint16(26, true) + view.getUint16(28, true)
  if (!(offset + size <= source.size))
    return fail(`"${name}" in it ends at byte ${offset + size}, the file has ${source.size}`, { entry: name })
  return { name, offset, size }
}
