// Sharding as save_pretrained does it: which tensor goes to which file, and model.safetensors.index.json in both directions.
import { FileError } from '../core/errors.ts'
import {
  byCodePoint,
  fromPlain,
  isJsonObject,
  JsonNumber,
  type JsonObject,
  parseJsonObject,
  writeJson,
} from '../core/json.ts'
import type { SafetensorsEntry } from './safetensors.ts'
import { safetensorsBytes } from './safetensors.ts'

export const SINGLE_FILE = 'model.safetensors'
export const INDEX_FILE = 'model.safetensors.index.json'
/** save_pretrained's default, 50 GB of 1000^3 bytes. */
export const DEFAULT_SHARD_BYTES = 50_000_000_000
/** More files than any model has. */
const MAX_SHARDS = 100_000

export interface ShardPlan<T extends SafetensorsEntry> {
  readonly file: string
  readonly entries: readonly T[]
}

/**
 * Fills shards in order of the names; a tensor above the limit gets a shard alone, which comes before the one being filled,
 * as in huggingface_hub's split_state_dict_into_shards_factory.
 */
export function planShards<T extends SafetensorsEntry>(
  entries: readonly T[],
  maxBytes: number = DEFAULT_SHARD_BYTES,
): ShardPlan<T>[] {
  const shards: T[][] = []
  let current: T[] = []
  let size = 0
  for (const entry of [...entries].sort((a, b) => byCodePoint(a.name, b.name))) {
    const bytes = safetensorsBytes(entry)
    if (bytes > maxBytes) {
      shards.push([entry])
      continue
    }
    if (size + bytes > maxBytes) {
      shards.push(current)
      current = []
      size = 0
    }
    current.push(entry)
    size += bytes
  }
  if (current.length > 0 || shards.length === 0) shards.push(current)
  if (shards.length === 1) return [{ file: SINGLE_FILE, entries: shards[0] }]
  const number = (n: number) => String(n).padStart(5, '0')
  return shards.map((list, i) => ({
    file: `model-${number(i + 1)}-of-${number(shards.length)}.safetensors`,
    entries: list,
  }))
}

/** Text of model.safetensors.index.json for shards written by us. `parameters` counts the model's own, not packed words. */
export function indexText(shards: readonly ShardPlan<SafetensorsEntry>[], parameters: number): string {
  const map: JsonObject = Object.create(null)
  let total = 0
  for (const { file, entries } of shards) {
    for (const entry of entries) {
      map[entry.name] = file
      total += safetensorsBytes(entry)
    }
  }
  const metadata = fromPlain({ total_parameters: parameters, total_size: total })
  return `${writeJson({ metadata, weight_map: map })}\n`
}

/** What an index says: the shards in order of their first mention, and each tensor's shard. */
export interface ShardIndex {
  readonly shards: readonly string[]
  readonly fileOf: ReadonlyMap<string, string>
}

/** Reads an index. Throws FileError where a shard's name is no plain file name. */
export function parseIndex(text: string, file: string, extension = '.safetensors'): ShardIndex {
  const map = parseJsonObject(text, file).weight_map
  if (!isJsonObject(map)) throw new FileError(`Cannot read "${file}": it has no object "weight_map"`, { file })
  const shards = new Set<string>()
  const fileOf = new Map<string, string>()
  for (const tensor of Object.keys(map)) {
    const shard = map[tensor]
    if (typeof shard !== 'string') {
      const actual = shard instanceof JsonNumber ? shard.text : typeof shard
      throw new FileError(`Cannot read "${file}": the shard of tensor "${tensor}" is ${actual}, expected a file name`, {
        file,
        tensor,
        actual,
      })
    }
    checkShardName(shard, file, tensor, extension)
    shards.add(shard)
    fileOf.set(tensor, shard)
  }
  if (shards.size === 0 || shards.size > MAX_SHARDS)
    throw new FileError(`Cannot read "${file}": it names ${shards.size} shards, expected 1 to ${MAX_SHARDS}`, {
      file,
      actual: shards.size,
    })
  return { shards: [...shards], fileOf }
}

function checkShardName(shard: string, file: string, tensor: string, extension: string): void {
  const plain = shard.endsWith(extension) && !/[/\\:\0]/.test(shard) && !shard.startsWith('.')
  if (plain) return
  throw new FileError(
    `Cannot read "${file}": the shard of tensor "${tensor}" is ${JSON.stringify(shard)}, expected a ${extension} file in the same folder`,
    { file, tensor, actual: shard, hint: "a model's shards lie beside its index: correct the names in weight_map" },
  )
}
