// What lies beside config.json and the weights in the folder that a GGUF file stands for: generation_config.json and the tokenizer.
import { GgufKeys, type GgufMetadata } from '../../checkpoint/gguf/metadata.ts'
import type { Checkpoint } from '../../checkpoint/types.ts'
import { fromPlain, type JsonObject, type PlainObject, writeJson } from '../../core/json.ts'
import { ggufEndIds, tokenizerPartsFromGguf } from '../../text/gguf-vocabulary.ts'
import { tokenizerFiles } from '../../text/tokenizer-files.ts'
import { SAMPLING } from './metadata.ts'

/** Name -> text. A file without a tokenizer gives generation_config.json alone. */
export function folderFiles(checkpoint: Checkpoint, maxPositions: number): Map<string, string> {
  const { metadata, files } = checkpoint
  const hasTokenizer = metadata.has('tokenizer.ggml.model')
  const out = hasTokenizer
    ? tokenizerFiles(tokenizerPartsFromGguf(metadata, files.name), maxPositions)
    : new Map<string, string>()
  const generation = generationConfig(metadata as GgufMetadata, files.name, hasTokenizer)
  return out.set('generation_config.json', `${writeJson(fromPlain(generation) as JsonObject)}\n`)
}

function generationConfig(metadata: GgufMetadata, file: string, hasTokenizer: boolean): PlainObject {
  const keys = new GgufKeys(metadata, file)
  const config: PlainObject = {}
  for (const [name, key] of SAMPLING) {
    const full = `general.sampling.${key}`
    const value = metadata.get(full)?.type === 'string' ? keys.string(full) : keys.number(full)
    if (value !== undefined) config[name] = value
  }
  // A file names sampling values only where the model's own settings do.
  if (Object.keys(config).length > 0) config.do_sample = true
  const bos = keys.number('tokenizer.ggml.bos_token_id')
  if (bos !== undefined) config.bos_token_id = bos
  const ends = hasTokenizer ? ggufEndIds(metadata, file) : []
  if (ends.length > 0) config.eos_token_id = ends.length === 1 ? ends[0] : ends
  const pad = keys.number('tokenizer.ggml.padding_token_id')
  if (pad !== undefined) config.pad_token_id = pad
  return config
}
