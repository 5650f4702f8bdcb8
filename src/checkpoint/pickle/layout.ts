// Where everything of a file of torch.save lies, before any tensor has its bytes: the pickle that describes a state dictionary, then a
// storage for each tensor. Its other half, archive.ts, reads it.
import { DTYPE_BYTES, type DType, elementCount } from '../../core/dtypes.ts'
import { pickleStateDict } from './pickler.ts'
import { localHeader, planZip, type ZipPlan, zipDirectory } from './zip-writer.ts'

/** What the pickle says of one tensor. */
export interface TorchEntry {
  readonly name: string
  readonly dtype: string
  readonly shape: readonly number[]
}

/** A piece of the file at its place. */
export interface TorchPiece {
  readonly at: number
  readonly bytes: Uint8Array
}

export interface TorchLayout {
  /** Of each tensor's bytes, from the start of the file. */
  readonly offsets: readonly number[]
  readonly sizes: readonly number[]
  /** Bytes of the whole file. */
  readonly total: number
  /** Everything but the tensors. `crcs`: the CRC-32 of each one's bytes. */
  pieces(crcs: readonly number[], crc32: (bytes: Uint8Array) => number): TorchPiece[]
}

const ROOT = 'archive'
const text = (value: string) => new TextEncoder().encode(value)

/**
 * Lays out a state dictionary in the order of `entries`; `aliases`: further names, at the end, of tensors that are there (a tied head).
 * Throws FileError where torch has no such dtype.
 */
export function torchLayout(entries: readonly TorchEntry[], aliases: ReadonlyMap<string, string>): TorchLayout {
  const named = entries.map((entry, i) => ({ ...entry, storage: String(i) }))
  const shared = [...aliases].flatMap(([name, of]) => named.filter((t) => t.name === of).map((t) => ({ ...t, name })))
  const described: [string, Uint8Array][] = [
    ['data.pkl', pickleStateDict([...named, ...shared])],
    ['byteorder', text('little')],
    ['version', text('3\n')],
  ]
  const sizes = entries.map(({ shape, dtype }) => elementCount(shape) * DTYPE_BYTES[dtype as DType])
  const plan = planZip([
    ...described.map(([name, bytes]) => ({ name: `${ROOT}/${name}`, size: bytes.length })),
    ...sizes.map((size, i) => ({ name: `${ROOT}/data/${i}`, size })),
  ])
  const ownBytes = described.map(([, bytes]) => bytes)
  return {
    offsets: plan.entries.slice(described.length).map((entry) => entry.offset),
    sizes,
    total: plan.total,
    pieces: (crcs, crc32) => frame(plan, ownBytes, [...ownBytes.map(crc32), ...crcs]),
  }
}

/** The headers of all entries, the bytes of the first few, and the directory. */
function frame(plan: ZipPlan, first: readonly Uint8Array[], crcs: readonly number[]): TorchPiece[] {
  const headers = plan.entries.map((entry, i) => ({ at: entry.start, bytes: localHeader(entry, crcs[i]) }))
  const bodies = first.map((bytes, i) => ({ at: plan.entries[i].offset, bytes }))
  return [...headers, ...bodies, { at: plan.end, bytes: zipDirectory(plan, crcs) }]
}
