// What a file of torch.save holds: its pickle's value, and where each storage lies. Two layouts: a zip archive (since torch 1.6), and before
// that five pickles in a row followed by the storages.
import { DTYPE_BYTES, type DType } from '../../core/dtypes.ts'
import { FileError } from '../../core/errors.ts'
import type { ByteSource } from '../types.ts'
import { type PickleValue, unpickle, unpickleSequence } from './unpickle.ts'
import { type ZipEntry, zipEntries } from './zip.ts'

export interface TorchArchive {
  readonly value: PickleValue
  /** Key of a storage -> its bytes in the file. */
  readonly storages: ReadonlyMap<string, { readonly offset: number; readonly size: number }>
}

/** A pickle only describes tensors: larger ones are no checkpoint's. */
const MAX_PICKLE = 256 * 1024 * 1024
const LEGACY_MAGIC = 0x1950a86a20f9469cfc6cn
const LEGACY_PROTOCOL = 1001

/** True for the first bytes of either layout. */
export function looksLikeTorch(head: Uint8Array): boolean {
  const zip = head[0] === 0x50 && head[1] === 0x4b && head[2] === 3 && head[3] === 4
  return zip || (head[0] === 0x80 && head[1] >= 2 && head[1] <= 5)
}

/** Reads everything but the storages. Throws FileError. */
export async function readArchive(source: ByteSource): Promise<TorchArchive> {
  const head = await source.read(0, Math.min(4, source.size))
  if (!looksLikeTorch(head))
    throw new FileError(`Cannot read "${source.name}": it is no file of torch.save`, {
      file: source.name,
      hint: 'the file is damaged or another format under this name: download it again',
    })
  return head[0] === 0x50 ? zipArchive(source) : legacyArchive(source)
}

async function zipArchive(source: ByteSource): Promise<TorchArchive> {
  const entries = await zipEntries(source)
  const pickle = entries.find(({ name }) => /^[^/]*\/data\.pkl$/.test(name))
  if (!pickle)
    throw new FileError(`Cannot read "${source.name}": it is a zip archive without data.pkl, not one of torch.save`, {
      file: source.name,
      found: entries.slice(0, 10).map((e) => e.name),
    })
  const root = pickle.name.slice(0, -'data.pkl'.length)
  await checkByteOrder(source, entries, root)
  const value = unpickle(await readPickle(source, pickle.offset, pickle.size), source.name)
  const prefix = `${root}data/`
  const storages = entries.filter(({ name }) => name.startsWith(prefix))
  return { value, storages: new Map(storages.map((e) => [e.name.slice(prefix.length), e])) }
}

async function checkByteOrder(source: ByteSource, entries: readonly ZipEntry[], root: string): Promise<void> {
  const entry = entries.find(({ name }) => name === `${root}byteorder`)
  if (!entry) return
  const order = new TextDecoder().decode(await source.read(entry.offset, Math.min(entry.size, 16)))
  if (order !== 'little')
    throw new FileError(`Cannot read "${source.name}": its byte order is ${JSON.stringify(order)}, expected "little"`, {
      file: source.name,
    })
}

async function readPickle(source: ByteSource, offset: number, size: number): Promise<Uint8Array> {
  if (size <= MAX_PICKLE) return source.read(offset, size)
  throw new FileError(`Cannot read "${source.name}": its pickle has ${size} bytes, at most ${MAX_PICKLE} are read`, {
    file: source.name,
    actual: size,
  })
}

/** Magic number, protocol, the writer's machine, the value, the keys of the storages; then each storage with its count of elements. */
async function legacyArchive(source: ByteSource): Promise<TorchArchive> {
  const fail = (problem: string): never => {
    throw new FileError(`Cannot read "${source.name}": ${problem}`, {
      file: source.name,
      hint: 'the file is damaged, or no file of torch.save',
    })
  }
  const bytes = await source.read(0, Math.min(source.size, MAX_PICKLE))
  const { values, storages: types, end } = unpickleSequence(bytes, source.name, 5)
  const [magic, protocol, machine, value, keys] = values
  if (magic !== LEGACY_MAGIC || protocol !== LEGACY_PROTOCOL) return fail('it is a pickle, but not one of torch.save')
  if (machine instanceof Map && machine.get('little_endian') === false)
    return fail('it was written in big-endian order')
  if (!Array.isArray(keys)) return fail('it has no list of storages')
  const storages = new Map<string, { offset: number; size: number }>()
  let at = end
  for (const key of keys) {
    const dtype = typeof key === 'string' ? types.get(key) : undefined
    if (dtype === undefined || at + 8 > source.size) return fail(`storage ${String(key)} is not there`)
    const header = await source.read(at, 8)
    const count = Number(new DataView(header.buffer, header.byteOffset, 8).getBigInt64(0, true))
    const size = count * DTYPE_BYTES[dtype as DType]
    if (!(count >= 0 && at + 8 + size <= source.size)) return fail(`storage ${String(key)} is cut off`)
    storages.set(key as string, { offset: at + 8, size })
    at += 8 + size
  }
  return { value, storages }
}
