// The tokenizer's key-values of a GGUF file made from a model folder.
import { readBytes } from '../../checkpoint/text-file.ts'
import { type PlainObject, toPlain } from '../../core/json.ts'
import { ggufSourceFromFolder } from '../../text/files.ts'
import { type GgufTokenizerValue, ggufTokenizer } from '../../text/gguf-write.ts'
import type { ModelSource } from '../source.ts'

/** Empty, with a warning, where the folder has no tokenizer. `pre` overrides the look-up of `tokenizer.ggml.pre`. */
export async function ggufTokenizerOf(
  source: ModelSource,
  pre?: string,
): Promise<{ metadata: ReadonlyMap<string, GgufTokenizerValue>; warnings: readonly string[] }> {
  const { files } = source.checkpoint
  const read = async (name: string) => ((await files.has(name)) ? readBytes(files, name) : undefined)
  const architecture = source.family.gguf?.architecture ?? ''
  const found = await ggufSourceFromFolder(read, architecture, toPlain(source.configJson) as PlainObject, pre)
  if (found) return ggufTokenizer(found)
  return { metadata: new Map(), warnings: ['the folder has no tokenizer: llama.cpp will not run the file'] }
}
