// Opens a model's files as one Checkpoint: finds the container, reads headers and config.json, follows a shard index.
import { FileError } from '../core/errors.ts'
import { isJsonObject, type JsonObject, parseJsonObject } from '../core/json.ts'
import { ggufIn, openGguf } from './gguf/open.ts'
import { readSafetensorsHeader } from './safetensors.ts'
import type { ByteSource, Checkpoint, FileSet, StoredTensor } from './types.ts'

/** Larger than any real config, index or tokenizer that is text. */
const MAX_TEXT_BYTES = 64 * 1024 * 1024

/** The whole of a small text file. */
export async function readText(files: FileSet, name: string): Promise<string> {
  const source = await files.open(name)
  try {
    if (source.size > MAX_TEXT_BYTES)
      throw new FileError(`Cannot read "${name}": ${source.size} bytes, the limit for text is ${MAX_TEXT_BYTES}`, {
        file: name,
        actual: source.size,
      })
    return new TextDecoder().decode(await source.read(0, source.size))
  } finally {
    await source.close()
  }
}

async function shardNames(files: FileSet): Promise<string[]> {
  if (await files.has('model.safetensors')) return ['model.safetensors']
  const index = 'model.safetensors.index.json'
  if (await files.has(index)) {
    const map = parseJsonObject(await readText(files, index), index).weight_map
    if (!isJsonObject(map))
      throw new FileError(`Cannot read "${index}": it has no object "weight_map"`, { file: index })
    const names = new Set<string>()
    for (const shard of Object.values(map)) {
      if (typeof shard !== 'string')
        throw new FileError(`Cannot read "${index}": a shard's name is not a string`, { file: index })
      names.add(shard)
    }
    return [...names]
  }
  const list = await files.list()
  const pickle = list.find((n) => /\.(bin|pt|pth|ckpt)$/.test(n))
  const hint = pickle
    ? `"${pickle}" is a pickle, which fewbit does not read: save the model as safetensors first`
    : 'a model folder holds config.json and model.safetensors'
  throw new FileError(`Cannot open "${files.name}": it holds no model.safetensors`, {
    file: files.name,
    found: list.slice(0, 20),
    hint,
  })
}

async function ggufName(files: FileSet): Promise<string | undefined> {
  if (files.single !== undefined) return files.single.endsWith('.gguf') ? files.single : undefined
  if (await files.has('model.safetensors')) return undefined
  if (await files.has('model.safetensors.index.json')) return undefined
  return ggufIn(files.name, await files.list())
}

/** Opens a folder in Hugging Face form, a .gguf file or a folder with one. Throws FileError. */
export async function openCheckpoint(files: FileSet): Promise<Checkpoint> {
  const gguf = await ggufName(files)
  if (gguf !== undefined) return openGguf(files, gguf)
  const config: JsonObject | null = (await files.has('config.json'))
    ? parseJsonObject(await readText(files, 'config.json'), 'config.json')
    : null
  const sources = new Map<string, ByteSource>()
  const tensors = new Map<string, StoredTensor>()
  let metadata: ReadonlyMap<string, string> = new Map()
  for (const name of await shardNames(files)) {
    const source = await files.open(name)
    sources.set(name, source)
    const header = await readSafetensorsHeader(source)
    if (sources.size === 1) metadata = header.metadata
    for (const tensor of header.tensors) {
      if (tensors.has(tensor.name))
        throw new FileError(`Cannot open "${files.name}": tensor "${tensor.name}" is in two shards`, {
          tensor: tensor.name,
          file: name,
        })
      tensors.set(tensor.name, tensor)
    }
  }
  return {
    format: 'safetensors',
    files,
    tensors,
    config,
    metadata,
    read: async (tensor, from = 0, to = tensor.byteLength) =>
      sources.get(tensor.file)!.read(tensor.offset + from, to - from),
    close: async () => {
      for (const source of sources.values()) await source.close()
    },
  }
}
