// Models of text and images, as their folders describe them: `text_config` and `vision_config` side by side. The text part is a model of
// its own, with the names and the config.json that it has alone; the rest is left out.
import type { Checkpoint, StoredTensor } from '../checkpoint/types.ts'
import { isJsonObject, type JsonObject } from '../core/json.ts'

/** Keys that stand outside `text_config` and hold for it where it does not say otherwise. */
const SHARED = [
  'tie_word_embeddings',
  'quantization_config',
  'bos_token_id',
  'eos_token_id',
  'pad_token_id',
  'transformers_version',
]

/** Parts that see or hear: not the model of text. */
const OTHER_PARTS =
  /^(?:model\.)?(?:vision_tower|vision_model|multi_modal_projector|embed_vision|audio_tower|embed_audio)\./

/** The front of a name in the two spellings: `language_model.model.layers`, and `model.language_model.layers` of newer files. */
const FRONTS: readonly (readonly [string, string])[] = [
  ['language_model.model.', 'model.'],
  ['language_model.lm_head.', 'lm_head.'],
  ['model.language_model.', 'model.'],
]

export interface TextPart {
  readonly checkpoint: Checkpoint
  readonly warnings: readonly string[]
}

/** The checkpoint itself, or its text part where `config` has one of a family that is known and is no family itself. */
export function textPart(checkpoint: Checkpoint, config: JsonObject, isKnown: (type: unknown) => boolean): TextPart {
  const { text_config: text, model_type: type } = config
  const unchanged = { checkpoint, warnings: [] }
  if (!isJsonObject(text) || isKnown(type)) return unchanged
  const textType = text.model_type ?? `${type}_text`
  if (!isKnown(textType)) return unchanged
  const tensors = new Map<string, StoredTensor>()
  for (const tensor of checkpoint.tensors.values()) {
    if (OTHER_PARTS.test(tensor.name)) continue
    const name = textName(tensor.name)
    tensors.set(name, { ...tensor, name })
  }
  const left = checkpoint.tensors.size - tensors.size
  return {
    checkpoint: { ...checkpoint, tensors, config: textConfig(config, text, String(textType)) },
    warnings: [
      `${String(type)} is a model of text and images: its text part (${textType}) is taken, ${left} tensors of the others are left out`,
    ],
  }
}

function textName(name: string): string {
  const front = FRONTS.find(([from]) => name.startsWith(from))
  return front ? front[1] + name.slice(front[0].length) : name
}

function textConfig(config: JsonObject, text: JsonObject, type: string): JsonObject {
  const out: JsonObject = { ...text, model_type: type }
  for (const key of SHARED) if (out[key] === undefined && config[key] !== undefined) out[key] = config[key]
  if (out.dtype === undefined && out.torch_dtype === undefined)
    for (const key of ['dtype', 'torch_dtype']) if (config[key] !== undefined) out[key] = config[key]
  return out
}
