// config.json -> sizes and switches of a gated decoder, old and new spellings. A family states only where it differs.
import { ConfigError, UnsupportedError } from '../../core/errors.ts'
import { type JsonObject, type PlainObject, toPlain } from '../../core/json.ts'
import type { Activation } from '../../graph/types.ts'
import type { RopeConfig } from '../model-config.ts'
import { ConfigFields } from './fields.ts'
import { parseRope } from './rope-config.ts'
import type { DecoderConfig, Placement } from './types.ts'
import { noWindows, type WindowRule } from './windows.ts'

/** A billion layers in a config.json must not become a billion nodes; the deepest decoders in use have about 130. */
export const MAX_LAYERS = 1024

/** What a family's config class assumes where config.json is silent, and which switches it has. */
export interface DecoderTraits {
  readonly vocabSize: number
  readonly intermediateSize: number
  readonly maxPositions: number
  /** Default 4096. */
  readonly hiddenSize?: number
  /** Default 32. */
  readonly layers?: number
  /** Default 32. */
  readonly heads?: number
  /** Undefined: as many as there are heads. */
  readonly kvHeads?: number
  /** Undefined: hidden_size / num_attention_heads. */
  readonly headDim?: number
  /** Default 1e-6. */
  readonly normEps?: number
  /** Default false. */
  readonly tied?: boolean
  readonly normAddsOne?: boolean
  /** Default `pre`. */
  readonly placement?: Placement
  readonly qkNorm?: 'head' | 'full'
  readonly fused?: boolean
  /** Which linears of the attention have biases: by `attention_bias`, on q, k and v always, or none. */
  readonly attentionBias: 'config' | 'qkv' | 'none'
  readonly mlpBias?: 'config'
  /** Reads the activation; default: `hidden_act`, silu where absent. */
  readonly activation?: (fields: ConfigFields) => Activation
  /** Default: none. */
  readonly windows?: WindowRule
  /** Default: one for all layers. */
  readonly ropes?: (config: PlainObject, sizes: RopeSizes) => Pick<DecoderConfig, 'rope' | 'ropes'>
  /** Factors and caps that only this family has; the rest is 1 or none, and the score scale headDim^-0.5. */
  readonly factors?: (fields: ConfigFields, sizes: RopeSizes) => Partial<Factors>
}

export interface RopeSizes {
  readonly hiddenSize: number
  readonly layers: number
  readonly headDim: number
  readonly maxPositions: number
}

type Factors = Pick<
  DecoderConfig,
  'embeddingScale' | 'scoreScale' | 'residualScale' | 'logitDivisor' | 'scoreSoftcap' | 'logitSoftcap'
>

/** Reads a config.json by a family's traits. Throws ConfigError naming the key. */
export function parseDecoderConfig(json: JsonObject, traits: DecoderTraits): DecoderConfig {
  const config = toPlain(json) as PlainObject
  const fields = new ConfigFields(config)
  const layers = fields.size('num_hidden_layers', traits.layers ?? 32, MAX_LAYERS)
  const heads = fields.size('num_attention_heads', traits.heads ?? 32)
  const hiddenSize = fields.size('hidden_size', traits.hiddenSize ?? 4096)
  const kvHeads = fields.size('num_key_value_heads', traits.kvHeads ?? heads)
  if (heads % kvHeads !== 0)
    throw new ConfigError(
      `Cannot read config.json: ${heads} attention heads cannot share ${kvHeads} key/value heads evenly`,
      { key: 'num_key_value_heads', actual: kvHeads, hint: `num_key_value_heads must divide ${heads}` },
    )
  const headDim = headSize(fields, traits, hiddenSize, heads)
  const maxPositions = fields.size('max_position_embeddings', traits.maxPositions)
  const sizes = { hiddenSize, layers, headDim, maxPositions }
  const bias = traits.attentionBias === 'config' && fields.flag('attention_bias')
  return {
    modelType: fields.text('model_type'),
    vocabSize: fields.size('vocab_size', traits.vocabSize),
    heads,
    kvHeads,
    ...sizes,
    intermediateSize: fields.size('intermediate_size', traits.intermediateSize),
    normEps: fields.positive('rms_norm_eps', traits.normEps ?? 1e-6),
    normAddsOne: traits.normAddsOne ?? false,
    placement: traits.placement ?? 'pre',
    tied: fields.flag('tie_word_embeddings', traits.tied),
    qkvBias: bias || traits.attentionBias === 'qkv',
    outputBias: bias,
    mlpBias: traits.mlpBias === 'config' && fields.flag('mlp_bias'),
    qkNorm: traits.qkNorm,
    fused: traits.fused ?? false,
    activation: traits.activation ? traits.activation(fields) : activationOf(fields, 'hidden_act', 'silu'),
    windows: (traits.windows ?? noWindows)(fields, layers),
    ...(traits.ropes ? traits.ropes(config, sizes) : oneRope(config, sizes)),
    embeddingScale: 1,
    scoreScale: headDim ** -0.5,
    residualScale: 1,
    logitDivisor: 1,
    ...traits.factors?.(fields, sizes),
  }
}

/** The same rope on every layer. */
export function oneRope(
  config: PlainObject,
  sizes: RopeSizes,
  theta?: number,
): { rope: RopeConfig; ropes: RopeConfig[] } {
  const rope = parseRope(config, sizes.headDim, sizes.maxPositions, theta)
  return { rope, ropes: new Array<RopeConfig>(sizes.layers).fill(rope) }
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

/** Spellings of an activation. */
const ACTIVATIONS: Readonly<Record<string, Activation>> = {
  silu: 'silu',
  swish: 'silu',
  gelu: 'gelu',
  gelu_new: 'gelu_tanh',
  gelu_fast: 'gelu_tanh',
  gelu_pytorch_tanh: 'gelu_tanh',
  relu: 'relu',
}

/** The activation named by `key`. Throws UnsupportedError listing what there is. */
export function activationOf(fields: ConfigFields, key: string, fallback: string): Activation {
  const name = fields.text(key, fallback)
  const found = Object.hasOwn(ACTIVATIONS, name) ? ACTIVATIONS[name] : undefined
  if (found) return found
  throw new UnsupportedError(
    `Activation "${name}" is not supported: there are ${Object.keys(ACTIVATIONS).join(', ')}`,
    { key, actual: name },
  )
}
