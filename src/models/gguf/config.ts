// A GGUF file as a config.json: metadata and tensor table -> the keys that the family's own reader takes, so that both containers
// meet the same defaults and checks. gguf.md, section 8.
import { GgufKeys } from '../../checkpoint/gguf/metadata.ts'
import type { Checkpoint } from '../../checkpoint/types.ts'
import { FileError, UnsupportedError } from '../../core/errors.ts'
import { fromPlain, type JsonObject, type PlainObject } from '../../core/json.ts'
import type { ModelFamily } from '../types.ts'
import type { GgufHeader, GgufProfile } from './profile.ts'

/** A family that has GGUF files. */
export type GgufFamily = ModelFamily & { readonly gguf: GgufProfile }

/** The family of a GGUF file, by `general.architecture`. Throws UnsupportedError listing what is there. */
export function familyOfGguf(checkpoint: Checkpoint, families: readonly ModelFamily[]): GgufFamily {
  const keys = new GgufKeys(checkpoint.metadata, checkpoint.files.name)
  const architecture = keys.need('general.architecture', keys.string('general.architecture'))
  const found = families.find((family): family is GgufFamily => family.gguf?.architecture === architecture)
  if (found) return found
  const known = [...new Set(families.flatMap((family) => family.gguf?.architecture ?? []))]
  throw new UnsupportedError(`Cannot run GGUF architecture "${architecture}": fewbit knows ${known.join(', ')}`, {
    architecture,
    known,
  })
}

/** The config.json that the file's metadata stands for. Throws FileError naming the key. */
export async function configFromGguf(checkpoint: Checkpoint, family: GgufFamily): Promise<JsonObject> {
  const header = headerOf(checkpoint, family.gguf.architecture)
  if ((header.number('expert_count') ?? 0) > 0)
    throw new UnsupportedError(`Cannot run "${checkpoint.files.name}": it is a mixture of experts`, {
      file: checkpoint.files.name,
      key: `${header.architecture}.expert_count`,
    })
  const config: PlainObject = {
    model_type: family.modelTypes[0],
    ...(await family.gguf.readConfig(header)),
    vocab_size: vocabularySize(checkpoint),
    tie_word_embeddings: !checkpoint.tensors.has('output.weight'),
  }
  for (const role of ['bos', 'eos']) {
    const id = header.keys.number(`tokenizer.ggml.${role}_token_id`)
    if (id !== undefined) config[`${role}_token_id`] = id
  }
  return fromPlain(config) as JsonObject
}

function headerOf(checkpoint: Checkpoint, architecture: string): GgufHeader {
  const keys = new GgufKeys(checkpoint.metadata, checkpoint.files.name)
  const number = (key: string) => keys.number(`${architecture}.${key}`)
  return {
    architecture,
    checkpoint,
    keys,
    number,
    need: (key) => keys.need(`${architecture}.${key}`, number(key)),
  }
}

/** The embedding's own rows: a token list may be longer or absent. */
function vocabularySize(checkpoint: Checkpoint): number {
  const embedding = checkpoint.tensors.get('token_embd.weight')
  if (embedding?.shape.length === 2) return embedding.shape[0]
  const file = checkpoint.files.name
  throw new FileError(`Cannot load "${file}": tensor "token_embd.weight" is missing or is no matrix`, {
    file,
    tensor: 'token_embd.weight',
    hint: `fewbit inspect ${file}`,
  })
}
