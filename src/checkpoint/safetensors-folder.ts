// A folder in Hugging Face form, sharded or not, or one .safetensors file, as a Checkpoint.
import { FileError } from '../core/errors.ts'
import { type JsonObject, parseJsonObject } from '../core/json.ts'
import { readSafetensorsHeader } from './safetensors.ts'
import { INDEX_FILE, parseIndex, type ShardIndex } from './shards.ts'
import { readText } from './text-file.ts'
import type { ByteSource, Checkpoint, FileSet, StoredTensor } from './types.ts'

/** Opens one .safetensors file of the set. Throws FileError. */
export async function openSafetensorsFile(files: FileSet, name: string): Promise<Checkpoint> {
  return openShards(files, [name], undefined)
}

/** Opens all shards that the index names. Throws FileError. */
export async function openSafetensorsIndex(files: FileSet): Promise<Checkpoint> {
  const index = parseIndex(await readText(files, INDEX_FILE), INDEX_FILE)
  for (const [i, shard] of index.shards.entries()) {
    if (await files.has(shard)) continue
    throw new FileError(`Cannot open "${files.name}": shard "${shard}" is missing`, {
      file: shard,
      expected: index.shards.length,
      hint: `"${INDEX_FILE}" names ${index.shards.length} shards: download the missing one${i === 0 ? ' (or all)' : ''}`,
    })
  }
  return openShards(files, index.shards, index)
}

async function openShards(
  files: FileSet,
  names: readonly string[],
  index: ShardIndex | undefined,
): Promise<Checkpoint> {
  const config: JsonObject | null = (await files.has('config.json'))
    ? parseJsonObject(await readText(files, 'config.json'), 'config.json')
    : null
  const sources = new Map<string, ByteSource>()
  const tensors = new Map<string, StoredTensor>()
  const closeAll = async () => {
    for (const source of sources.values()) await source.close()
  }
  let metadata: ReadonlyMap<string, string> = new Map()
  try {
    for (const name of names) {
      const source = await files.open(name)
      sources.set(name, source)
      const header = await readSafetensorsHeader(source)
      if (sources.size === 1) metadata = header.metadata
      for (const tensor of header.tensors) addTensor(files.name, tensors, tensor)
    }
    const warnings = index ? checkIndex(files.name, tensors, index) : []
    return {
      format: 'safetensors',
      files,
      tensors,
      config,
      metadata,
      warnings,
      read: async (tensor, from = 0, to = tensor.byteLength, into) =>
        sources.get(tensor.file)!.read(tensor.offset + from, to - from, into),
      close: closeAll,
    }
  } catch (e) {
    await closeAll()
    throw e
  }
}

function addTensor(folder: string, tensors: Map<string, StoredTensor>, tensor: StoredTensor): void {
  const before = tensors.get(tensor.name)
  if (before)
    throw new FileError(
      `Cannot open "${folder}": tensor "${tensor.name}" is in two shards, "${before.file}" and "${tensor.file}"`,
      { tensor: tensor.name, file: tensor.file, found: [before.file, tensor.file] },
    )
  tensors.set(tensor.name, tensor)
}

/** Every tensor of the index must be where it says; one that the index forgot is a warning, as it loads all the same. */
function checkIndex(folder: string, tensors: ReadonlyMap<string, StoredTensor>, index: ShardIndex): string[] {
  for (const [name, file] of index.fileOf) {
    const found = tensors.get(name)?.file
    if (found === file) continue
    const where = found ? `in "${found}"` : 'in none of the shards'
    throw new FileError(`Cannot open "${folder}": the index puts tensor "${name}" into "${file}", it is ${where}`, {
      tensor: name,
      file: INDEX_FILE,
      expected: file,
      actual: found,
      hint: 'index and shards belong to different versions of the model: download both again',
    })
  }
  const forgotten = [...tensors.keys()].filter((name) => !index.fileOf.has(name))
  return forgotten.map((name) => `tensor "${name}" of "${tensors.get(name)!.file}" is not in ${INDEX_FILE}`)
}
