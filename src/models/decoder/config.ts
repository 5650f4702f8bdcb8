// config.json -> sizes and switches of a pre-norm gated decoder, old and new spellings. A family states only where it differs.
import { ConfigError, UnsupportedError } from '../../core/errors.ts'
import { type JsonObject, type PlainObject, toPlain } from '../../core/json.ts'
import type { Activation } from '../../graph/types.ts'
import type { DecoderConfig } from '../types.ts'
import { ConfigFields } from './fields.ts'
import { parseRope } from './rope-config.ts'

/** A billion layers in a config.json must not become a billion nodes; the deepest decoders in use have about 130. */
const MAX_LAYERS = 1024

/** What a family's config class assumes where config.json is silent, and which switches it has. */
export interface DecoderTraits {
  readonly vocabSize: number
  readonly intermediateSize: number
  readonly maxPositions: number
  /** Undefined: as many as there are heads. */
  readonly kvHeads?: number
  /** Undefined: hidden_size / num_attention_heads. */
  readonly headDim?: number
  readonly qkNorm?: boolean
  /** Which linears of the attention have biases: by `attention_bias`, on q, k and v always, or none. */
  readonly attentionBias: 'config' | 'qkv' | 'none'
  readonly mlpBias?: 'config'
  /** `all`: every layer where `sliding_window` is set (4096 where absent); `layers`: as `layer_types` or `max_window_layers` say. */
  readonly window?: 'all' | 'layers'
}

/** Reads a config.json by a family's traits. Throws ConfigError naming the key. */
export function parseDecoderConfig(json: JsonObject, traits: DecoderTraits): DecoderConfig {
  const config = toPlain(json) as PlainObject
  const fields = new ConfigFields(config)
  const layers = fields.size('num_hidden_layers', 32, MAX_LAYERS)
  const heads = fields.size('num_attention_heads', 32)
  const hiddenSize = fields.size('hidden_size', 4096)
  const kvHeads = fields.size('num_key_value_heads', traits.kvHeads ?? heads)
  if (heads % kvHeads !== 0)
    throw new ConfigError(
      `Cannot read config.json: ${heads} attention heads cannot share ${kvHeads} key/value heads evenly`,
      { key: 'num_key_value_heads', actual: kvHeads, hint: `num_key_value_heads must divide ${heads}` },
    )
  const headDim = headSize(fields, traits, hiddenSize, heads)
  const maxPositions = fields.size('max_position_embeddings', traits.maxPositions)
  const bias = traits.attentionBias === 'config' && fields.flag('attention_bias')
  return {
    modelType: fields.text('model_type'),
    vocabSize: fields.size('vocab_size', traits.vocabSize),
    hiddenSize,
    layers,
    heads,
    kvHeads,
    headDim,
    intermediateSize: fields.size('intermediate_size', traits.intermediateSize),
    maxPositions,
    normEps: fields.positive('rms_norm_eps', 1e-6),
    tied: fields.flag('tie_word_embeddings'),
    qkvBias: bias || traits.attentionBias === 'qkv',
    outputBias: bias,
    mlpBias: traits.mlpBias === 'config' && fields.flag('mlp_bias'),
    qkNorm: traits.qkNorm ?? false,
    activation: activation(fields),
    windows: windows(fields, traits, layers),
    rope: parseRope(config, headDim, maxPositions),
  }
}

function headSize(fields: ConfigFields, traits: DecoderTraits, hiddenSize: number, heads: number): number {
  if (fields.has('head_dim') || traits.headDim) return fields.size('head_dim', traits.headDim)
  if (hiddenSize % heads !== 0)
    throw new ConfigError(
      `Cannot read config.json: "hidden_size" ${hiddenSize} is no multiple of "num_attention_heads" ${heads}`,
      { key: 'num_attention_heads', actual: heads, hint: 'state "head_dim" where heads do not divide the width' },
    )
  return hiddenSize / heads
}

/** Spellings of hidden_act. */
const ACTIVATIONS: Readonly<Record<string, Activation>> = {
  silu: 'silu',
  swish: 'silu',
  gelu: 'gelu',
  gelu_new: 'gelu_tanh',
  gelu_pytorch_tanh: 'gelu_tanh',
  relu: 'relu',
}

function activation(fields: ConfigFields): Activation {
  const name = fields.text('hidden_act', 'silu')
  const found = ACTIVATIONS[name]
  if (found) return found
  throw new UnsupportedError(
    `Activation "${name}" is not supported: there are ${Object.keys(ACTIVATIONS).join(', ')}`,
    { key: 'hidden_act', actual: name },
  )
}

function windows(fields: ConfigFields, traits: DecoderTraits, layers: number): (number | undefined)[] {
  const none = new Array<undefined>(layers).fill(undefined)
  if (!traits.window) return none
  if (traits.window === 'all') {
    // An absent key means the class default 4096, a null none at all.
    if (fields.isNull('sliding_window')) return none
    return new Array<number>(layers).fill(fields.size('sliding_window', 4096))
  }
  const kinds = fields.texts('layer_types', layers)
  for (const kind of kinds ?? []) {
    if (kind !== 'full_attention' && kind !== 'sliding_attention')
      throw new UnsupportedError(`Layers of type "${kind}" are not supported in this family`, {
        key: 'layer_types',
        actual: kind,
      })
  }
  if (!fields.flag('use_sliding_window') || fields.isNull('sliding_window')) return none
  const window = fields.size('sliding_window', 4096)
  const first = fields.count('max_window_layers', 28)
  return none.map((_, i) => ((kinds ? kinds[i] === 'sliding_attention' : i >= first) ? window : undefined))
}
