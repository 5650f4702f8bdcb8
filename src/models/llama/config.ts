// config.json of the llama family -> sizes and switches. Reads old and new spellings.
import { ConfigError } from '../../core/errors.ts'
import { type JsonObject, type PlainObject, toPlain } from '../../core/json.ts'
import type { DecoderConfig, RopeConfig } from '../types.ts'

/** A billion layers in a config.json must not become a billion nodes. */
const MAX_LAYERS = 1024
const MAX_SIZE = 1 << 24

function size(config: PlainObject, key: string, fallback?: number, max = MAX_SIZE): number {
  const value = config[key] ?? fallback
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 1 || value > max) {
    throw new ConfigError(
      `Cannot read config.json: "${key}" is ${JSON.stringify(value)}, expected a whole number from 1 to ${max}`,
      { key, actual: value },
    )
  }
  return value
}

export function parseLlamaConfig(json: JsonObject): DecoderConfig {
  const config = toPlain(json) as PlainObject
  const heads = size(config, 'num_attention_heads')
  const hiddenSize = size(config, 'hidden_size')
  const headDim = size(config, 'head_dim', Math.floor(hiddenSize / heads))
  const layers = size(config, 'num_hidden_layers', undefined, MAX_LAYERS)
  const maxPositions = size(config, 'max_position_embeddings', 2048)
  const bias = config.attention_bias === true
  return {
    modelType: String(config.model_type),
    vocabSize: size(config, 'vocab_size'),
    hiddenSize,
    layers,
    heads,
    headDim,
    maxPositions,
    kvHeads: size(config, 'num_key_value_heads', heads),
    intermediateSize: size(config, 'intermediate_size'),
    normEps: Number(config.rms_norm_eps ?? 1e-6),
    tied: config.tie_word_embeddings === true,
    qkvBias: bias,
    outputBias: bias,
    mlpBias: config.mlp_bias === true,
    qkNorm: false,
    activation: 'silu',
    windows: new Array(layers).fill(undefined),
    rope: parseRope(config, headDim, maxPositions),
  }
}

function parseRope(config: PlainObject, headDim: number, maxPositions: number): RopeConfig {
  const rope = (config.rope_parameters ?? config.rope_scaling ?? {}) as PlainObject
  return {
    type: (rope.rope_type ?? rope.type ?? 'default') as RopeConfig['type'],
    theta: Number(rope.rope_theta ?? config.rope_theta ?? 10000),
    rotaryDim: headDim,
    factor: Number(rope.factor ?? 1),
    originalMaxPositions: Number(rope.original_max_position_embeddings ?? maxPositions),
    maxPositions,
    extra: rope,
  }
}
