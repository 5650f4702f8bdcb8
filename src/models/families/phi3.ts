import { JsonNumber, type JsonObject, type PlainObject } from '../../core/json.ts'
import { decoderFamily } from '../decoder/index.ts'
import { onEveryLayer } from '../decoder/windows.ts'
import type { GgufHeader } from '../gguf/profile.ts'
import { longropeParameters } from '../gguf/rope-factors.ts'
import type { RopeConfig, RopeOf } from '../model-config.ts'

/** Phi-3, 3.5 and 4-mini: q, k and v are one linear, gate and up another; part of a head may be rotated, by longrope. */
export const phi3 = decoderFamily({
  modelTypes: ['phi3'],
  className: 'Phi3ForCausalLM',
  gguf: {
    architecture: 'phi3',
    first: (k) => k.config.rope.type === 'longrope' && k.f32('rope.scaling.attn_factor', impliedFactor(k.config.rope)),
    keys: [
      'context_length',
      (k) => k.u32('rope.scaling.original_context_length', originalLength(k.config.rope, k.json)),
      'embedding_length',
      'feed_forward_length',
      'block_count',
      'head_count',
      'head_count_kv',
      'norm_epsilon',
      'rope_dimensions',
      'rope_base',
      'file_type',
      // 0 where there is none.
      'sliding_window',
    ],
    read: readConfig,
  },
  traits: {
    vocabSize: 32064,
    intermediateSize: 8192,
    maxPositions: 4096,
    hiddenSize: 3072,
    normEps: 1e-5,
    attentionBias: 'none',
    fused: true,
    windows: onEveryLayer(),
  },
})

/** What a config.json without the key means. */
const ORIGINAL_LENGTH = 4096

function originalLength(rope: RopeConfig, json: JsonObject): number {
  if (rope.type === 'longrope') return rope.originalMaxPositions
  const stated = json.original_max_position_embeddings
  return stated instanceof JsonNumber ? stated.value : ORIGINAL_LENGTH
}

/** The factor on cos and sin that follows from the lengths; the converter writes no other. */
function impliedFactor({ maxPositions, originalMaxPositions }: RopeOf<'longrope'>): number {
  const growth = maxPositions / originalMaxPositions
  return growth > 1 ? Math.sqrt(1 + Math.log(growth) / Math.log(originalMaxPositions)) : 1
}

async function readConfig(header: GgufHeader, config: PlainObject): Promise<PlainObject> {
  const rope = config.rope_parameters as PlainObject
  const rotated = header.number('rope.dimension_count') ?? (config.head_dim as number)
  const long = await longropeParameters(header.checkpoint, rotated / 2)
  const factor = header.number('rope.scaling.attn_factor')
  return {
    original_max_position_embeddings:
      header.number('rope.scaling.original_context_length') ?? (config.max_position_embeddings as number),
    rope_parameters: long ? { ...rope, ...long, ...(factor && { attention_factor: factor }) } : rope,
    sliding_window: header.number('attention.sliding_window') || null,
  }
}
