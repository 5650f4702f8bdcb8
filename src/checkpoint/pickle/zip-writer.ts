// A zip archive whose entries are stored, not compressed, and whose places are known before their bytes: as torch.save lays it out, data at
// multiples of 64. Sizes stand in the zip64 fields always, so that an archive of a kilobyte and one of 100 GB have the same form.

/** torch maps storages into memory where they lie. */
const ALIGNMENT = 64
const LOCAL_BYTES = 30
const ENTRY_BYTES = 46
/** The zip64 field of a local header (two sizes), and of the directory (the offset too). */
const LOCAL_ZIP64 = 4 + 16
const ENTRY_ZIP64 = 4 + 24
/** torch's own field, which pads. */
const PADDING_FIELD = 0x4246
const ZIP64_FIELD = 1
/** The version of the format that has zip64. */
const VERSION = 45
/** The first day that zip can say. */
const DATE = 0x21
/** The directory's end in zip64's form, where that lies, and the old form. */
const END_BYTES = 56 + 20 + 22
const IN_ZIP64 = 0xffffffff

/** An entry and where it lies. */
export interface PlacedEntry {
  readonly name: string
  readonly size: number
  /** Where its local header begins; its bytes begin at `offset`, a multiple of 64. */
  readonly start: number
  readonly offset: number
}

export interface ZipPlan {
  readonly entries: readonly PlacedEntry[]
  /** Where the directory begins, and the length of the whole. */
  readonly end: number
  readonly total: number
}

/** Places entries one after another. Names are ASCII. */
export function planZip(entries: readonly { readonly name: string; readonly size: number }[]): ZipPlan {
  let at = 0
  const placed = entries.map(({ name, size }) => {
    const start = at
    const least = start + LOCAL_BYTES + name.length + LOCAL_ZIP64 + 4
    const offset = Math.ceil(least / ALIGNMENT) * ALIGNMENT
    at = offset + size
    return { name, size, start, offset }
  })
  const directory = entries.reduce((sum, { name }) => sum + ENTRY_BYTES + name.length + ENTRY_ZIP64, 0)
  return { entries: placed, end: at, total: at + directory + END_BYTES }
}

/** What stands before the bytes of an entry, whose CRC-32 is `crc`. */
export function localHeader({ name, size, start, offset }: PlacedEntry, crc: number): Uint8Array {
  const out = new Fields(offset - start)
  out.u32(0x04034b50).u16(VERSION).u16(0).u16(0).u16(0).u16(DATE).u32(crc).u32(IN_ZIP64).u32(IN_ZIP64)
  const padding = offset - start - LOCAL_BYTES - name.length - LOCAL_ZIP64 - 4
  out
    .u16(name.length)
    .u16(LOCAL_ZIP64 + 4 + padding)
    .text(name)
  out.u16(ZIP64_FIELD).u16(16).u64(size).u64(size)
  out.u16(PADDING_FIELD).u16(padding)
  return out.bytes
}

/** The directory and the ends of the archive. `crcs`: of each entry. */
export function zipDirectory({ entries, end, total }: ZipPlan, crcs: readonly number[]): Uint8Array {
  const out = new Fields(total - end)
  for (const [i, { name, size, start }] of entries.entries()) {
    out.u32(0x02014b50).u16(VERSION).u16(VERSION).u16(0).u16(0).u16(0).u16(DATE).u32(crcs[i])
    out.u32(IN_ZIP64).u32(IN_ZIP64).u16(name.length).u16(ENTRY_ZIP64)
    out.u16(0).u16(0).u16(0).u32(0).u32(IN_ZIP64).text(name) // no comment, disk 0, attributes
    out.u16(ZIP64_FIELD).u16(24).u64(size).u64(size).u64(start)
  }
  const [count, size] = [entries.length, total - end - END_BYTES]
  out.u32(0x06064b50).u64(44).u16(VERSION).u16(VERSION).u32(0).u32(0).u64(count).u64(count).u64(size).u64(end)
  out
    .u32(0x07064b50)
    .u32(0)
    .u64(total - END_BYTES)
    .u32(1) // where the record before it begins
  const small = Math.min(count, 0xffff)
  out.u32(0x06054b50).u16(0).u16(0).u16(small).u16(small).u32(Math.min(size, IN_ZIP64)).u32(IN_ZIP64).u16(0)
  return out.bytes
}

/** Little-endian fields, one after another. */
class Fields {
  readonly bytes: Uint8Array
  private readonly view: DataView
  private at = 0
  constructor(length: number) {
    this.bytes = new Uint8Array(length)
    this.view = new DataView(this.bytes.buffer)
  }

  u16(value: number): this {
    this.view.setUint16(this.at, value, true)
    this.at += 2
    return this
  }

  u32(value: number): this {
    this.view.setUint32(this.at, value, true)
    this.at += 4
    return this
  }

  u64(value: number): this {
    this.view.setBigUint64(this.at, BigInt(value), true)
    this.at += 8
    return this
  }

  text(value: string): this {
    this.bytes.set(new TextEncoder().encode(value), this.at)
    this.at += value.length
    return this
  }
}
