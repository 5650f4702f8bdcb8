// A GGUF file as a config.json: metadata and tensor table -> the keys that the family's own reader takes, so that both containers
// meet the same defaults and checks. The metadata of llama.cpp's llama, qwen2 and qwen3 architectures; gguf.md, section 8.
import { GgufKeys } from '../../checkpoint/gguf/metadata.ts'
import type { Checkpoint } from '../../checkpoint/types.ts'
import { FileError, UnsupportedError } from '../../core/errors.ts'
import { fromPlain, type JsonObject, type PlainObject } from '../../core/json.ts'
import type { ModelFamily } from '../types.ts'

/** Metadata keys below the architecture's name -> config.json. */
const SIZES: readonly (readonly [string, string])[] = [
  ['block_count', 'num_hidden_layers'],
  ['context_length', 'max_position_embeddings'],
  ['embedding_length', 'hidden_size'],
  ['feed_forward_length', 'intermediate_size'],
  ['attention.head_count', 'num_attention_heads'],
  ['attention.layer_norm_rms_epsilon', 'rms_norm_eps'],
]

/** The family of a GGUF file, by `general.architecture`. Throws UnsupportedError listing what is there. */
export function familyOfGguf(checkpoint: Checkpoint, families: readonly ModelFamily[]): ModelFamily {
  const keys = new GgufKeys(checkpoint.metadata, checkpoint.files.name)
  const architecture = keys.need('general.architecture', keys.string('general.architecture'))
  const found = families.find((family) => family.ggufArchitecture === architecture)
  if (found) return found
  const known = [...new Set(families.map((family) => family.ggufArchitecture))]
  throw new UnsupportedError(`Cannot run GGUF architecture "${architecture}": fewbit knows ${known.join(', ')}`, {
    architecture,
    known,
  })
}

/** The config.json that the file's metadata stands for. Throws FileError naming the key. */
export function configFromGguf(checkpoint: Checkpoint, family: ModelFamily): JsonObject {
  const architecture = family.ggufArchitecture
  const keys = new GgufKeys(checkpoint.metadata, checkpoint.files.name)
  const number = (key: string) => keys.number(`${architecture}.${key}`)
  const need = (key: string) => keys.need(`${architecture}.${key}`, number(key))
  if ((number('expert_count') ?? 0) > 0)
    throw new UnsupportedError(`Cannot run "${checkpoint.files.name}": it is a mixture of experts`, {
      file: checkpoint.files.name,
      key: `${architecture}.expert_count`,
    })
  const config: PlainObject = { model_type: family.modelTypes[0] }
  for (const [key, name] of SIZES) config[name] = need(key)
  config.num_key_value_heads = number('attention.head_count_kv') ?? config.num_attention_heads
  config.vocab_size = vocabularySize(checkpoint)
  config.head_dim = headDim(keys, architecture, config)
  config.rope_parameters = ropeParameters(keys, architecture, config.head_dim)
  config.tie_word_embeddings = !checkpoint.tensors.has('output.weight')
  config.attention_bias = checkpoint.tensors.has('blk.0.attn_q.bias')
  config.mlp_bias = checkpoint.tensors.has('blk.0.ffn_up.bias')
  for (const role of ['bos', 'eos']) {
    const id = keys.number(`tokenizer.ggml.${role}_token_id`)
    if (id !== undefined) config[`${role}_token_id`] = id
  }
  return fromPlain(config) as JsonObject
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

function headDim(keys: GgufKeys, architecture: string, config: PlainObject): number {
  const [key, value] = ['key_length', 'value_length'].map((k) => keys.number(`${architecture}.attention.${k}`))
  if (key !== undefined && value !== undefined && key !== value)
    throw new UnsupportedError(`Cannot run "${keys.file}": its keys have ${key} values a head, its values ${value}`, {
      file: keys.file,
      key: `${architecture}.attention.key_length`,
    })
  return key ?? Math.floor((config.hidden_size as number) / (config.num_attention_heads as number))
}

function ropeParameters(keys: GgufKeys, architecture: string, headSize: number): PlainObject {
  const number = (key: string) => keys.number(`${architecture}.rope.${key}`)
  const rope: PlainObject = { rope_type: 'default', rope_theta: number('freq_base') ?? 10000 }
  const rotated = number('dimension_count') ?? headSize
  if (rotated !== headSize) rope.partial_rotary_factor = rotated / headSize
  // `scale_linear` is what files from before `scaling.type` have.
  const factor = number('scaling.factor') ?? number('scale_linear')
  const type = keys.string(`${architecture}.rope.scaling.type`) ?? (factor === undefined ? 'none' : 'linear')
  if (type === 'none' || factor === undefined || factor === 0) return rope
  rope.rope_type = type
  rope.factor = factor
  const original = number('scaling.original_context_length')
  if (original !== undefined) rope.original_max_position_embeddings = original
  if (type !== 'yarn') return rope
  for (const [key, name] of YARN) {
    const value = number(`scaling.${key}`)
    if (value !== undefined) rope[name] = value
  }
  // llama.cpp multiplies its own temperature by attn_factor, config.json states the product.
  const scale = number('scaling.attn_factor')
  if (scale !== undefined) rope.attention_factor = scale * (factor <= 1 ? 1 : 0.1 * Math.log(factor) + 1)
  return rope
}

const YARN: readonly (readonly [string, string])[] = [
  ['yarn_beta_fast', 'beta_fast'],
  ['yarn_beta_slow', 'beta_slow'],
]
