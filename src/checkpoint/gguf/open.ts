// Opens a .gguf file, or all files of a split one whichever was named, as one Checkpoint.
import { FileError, UnsupportedError } from '../../core/errors.ts'
import type { ByteSource, Checkpoint, FileSet, StoredTensor } from '../types.ts'
import { reverseWords } from './cursor.ts'
import { GgufKeys, type GgufMetadata } from './metadata.ts'
import { type GgufHeader, readGgufHeader } from './reader.ts'
import { SPLIT_NAME, splitName } from './split.ts'
import { ggmlTypeNamed } from './types.ts'

/** More files than any split model has. */
const MAX_SPLIT = 10_000

interface Part {
  readonly source: ByteSource
  readonly header: GgufHeader
}

/** Opens `name` of `files` with all files that it is split into. Throws FileError. */
export async function openGguf(files: FileSet, name: string): Promise<Checkpoint> {
  const parts = new Map<string, Part>()
  try {
    for (const file of await splitNames(files, name)) {
      const source = await files.open(file)
      const part = { source, header: undefined as unknown as GgufHeader }
      parts.set(file, part)
      part.header = await readGgufHeader(source)
    }
    const all = [...parts.values()]
    checkSplit(files.name, all)
    return {
      format: 'gguf',
      files,
      tensors: joinTables(files.name, all),
      config: null,
      metadata: all[0].header.metadata,
      warnings: all.flatMap(({ header }) => header.warnings),
      read: async (tensor, from = 0, to = tensor.byteLength, into) =>
        readRange(parts.get(tensor.file)!, tensor, from, to, into),
      close: async () => closeAll(parts),
    }
  } catch (e) {
    await closeAll(parts)
    throw e
  }
}

async function closeAll(parts: ReadonlyMap<string, Part>): Promise<void> {
  for (const { source } of parts.values()) await source.close()
}

/** Names of all files of a split model in order, or the one name. */
async function splitNames(files: FileSet, name: string): Promise<string[]> {
  const match = SPLIT_NAME.exec(name)
  if (!match) return [name]
  const [, stem, , of] = match
  const count = Number(of)
  if (count < 1 || count > MAX_SPLIT)
    throw new FileError(`Cannot open "${name}": it claims to be one of ${count} files`, { file: name, actual: count })
  const names = Array.from({ length: count }, (_, i) => splitName(stem, i, count))
  for (const file of names) {
    if (await files.has(file)) continue
    throw new FileError(`Cannot open "${name}": it is split into ${count} files and "${file}" is missing`, {
      file,
      expected: count,
      hint: `put all ${count} files into one folder`,
    })
  }
  return names
}

/** The `split.*` keys must agree with the names of the files. */
function checkSplit(name: string, parts: readonly Part[]): void {
  for (const [i, { source, header }] of parts.entries()) {
    const keys = new GgufKeys(header.metadata, source.name)
    const count = keys.number('split.count') ?? (parts.length === 1 ? 0 : undefined)
    if (count === undefined || Math.max(count, 1) !== parts.length) {
      throw new FileError(
        `Cannot open "${name}": "${source.name}" says it is one of ${count ?? 'no'} files, ${parts.length} were found`,
        {
          file: source.name,
          expected: count,
          actual: parts.length,
          hint: 'a split model keeps the names that llama-gguf-split gave its files: NAME-00001-of-00003.gguf',
        },
      )
    }
    const number = keys.number('split.no') ?? 0
    if (parts.length > 1 && number !== i)
      throw new FileError(`Cannot open "${name}": "${source.name}" is file ${number + 1} of the split by its own key`, {
        file: source.name,
        expected: i,
        actual: number,
      })
  }
  const total = parts.reduce((sum, part) => sum + part.header.tensors.length, 0)
  const expected = new GgufKeys(parts[0].header.metadata, name).number('split.tensors.count')
  if (parts.length > 1 && expected !== undefined && expected !== total)
    throw new FileError(
      `Cannot open "${name}": its files hold ${total} tensors, "split.tensors.count" is ${expected}`,
      {
        file: name,
        expected,
        actual: total,
      },
    )
}

function joinTables(name: string, parts: readonly Part[]): Map<string, StoredTensor> {
  const tensors = new Map<string, StoredTensor>()
  for (const { source, header } of parts) {
    for (const tensor of header.tensors) {
      if (tensors.has(tensor.name))
        throw new FileError(`Cannot open "${name}": tensor "${tensor.name}" is in two files of the split`, {
          tensor: tensor.name,
          file: source.name,
        })
      tensors.set(tensor.name, tensor)
    }
  }
  return tensors
}

async function readRange(
  { source, header }: Part,
  tensor: StoredTensor,
  from: number,
  to: number,
  into?: Uint8Array,
): Promise<Uint8Array> {
  if (!header.bigEndian) return source.read(tensor.offset + from, to - from, into)
  // Whole blocks are read and turned round, then cut to what was asked for.
  const { bytes: block, wide } = ggmlTypeNamed(tensor.dtype)!
  if (!wide)
    throw new UnsupportedError(
      `Cannot read "${tensor.name}" of "${source.name}": the order of bytes of ${tensor.dtype} in a big-endian file is not defined`,
      { file: source.name, tensor: tensor.name, hint: 'convert the file on the machine that made it' },
    )
  const start = Math.floor(from / block) * block
  const data = await source.read(tensor.offset + start, Math.ceil(to / block) * block - start)
  for (const [offset, width, count] of wide)
    for (let at = offset; at < data.length; at += block) reverseWords(data.subarray(at, at + width * count), width)
  return data.subarray(from - start, to - start)
}

/** The metadata of a GGUF checkpoint with its types. */
export function ggufMetadata(checkpoint: Checkpoint): GgufMetadata {
  if (checkpoint.format !== 'gguf')
    throw new FileError(`Cannot read "${checkpoint.files.name}" as GGUF: it is ${checkpoint.format}`, {
      file: checkpoint.files.name,
    })
  return checkpoint.metadata as GgufMetadata
}

/** The one model among the .gguf files of a folder: its first file. Undefined where there is none. */
export function ggufIn(folder: string, names: readonly string[]): string | undefined {
  const models = names.filter((n) => n.endsWith('.gguf') && Number(SPLIT_NAME.exec(n)?.[2] ?? 1) === 1)
  if (models.length <= 1) return models[0] ?? names.find((n) => n.endsWith('.gguf'))
  throw new FileError(`Cannot open "${folder}": it holds several GGUF models`, {
    file: folder,
    found: models.slice(0, 20),
    hint: `name one of them: ${folder}/${models[0]}`,
  })
}
