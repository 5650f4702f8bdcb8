// Gemma's GGUF files. Norms are stored with their 1 added (models/decoder/names.ts), and what the architecture fixes is not written:
// the score scale, which is that of the head but in the 27B models, and Gemma 2's windows on every other layer.
import type { PlainObject } from '../../core/json.ts'
import type { DecoderGguf, DecoderKey } from '../decoder/gguf.ts'
import type { DecoderConfig } from '../decoder/types.ts'
import type { GgufHeader } from '../gguf/profile.ts'

/** Layers by which llama.cpp tells the 27B models. */
const GEMMA2_27B = 46
const GEMMA3_27B = 62
/** Every so many layers of Gemma 3 see everything, where the file does not say. */
const GEMMA3_PATTERN = 6
const LOCAL_THETA = 1e4

const KEYS: readonly DecoderKey[] = [
  'context_length',
  'embedding_length',
  'block_count',
  'feed_forward_length',
  'head_count',
  'head_count_kv',
  'norm_epsilon',
  'head_lengths',
  'file_type',
]

export const gemmaGguf: DecoderGguf = { architecture: 'gemma', keys: KEYS }

export const gemma2Gguf: DecoderGguf = {
  architecture: 'gemma2',
  keys: [
    ...KEYS,
    (k) => k.f32('attn_logit_softcapping', k.config.scoreSoftcap ?? 0),
    (k) => k.f32('final_logit_softcapping', k.config.logitSoftcap ?? 0),
    'sliding_window',
  ],
  read: (header, config) => ({
    query_pre_attn_scalar: impliedScalar(config, GEMMA2_27B),
    attn_logit_softcapping: header.number('attn_logit_softcapping') || null,
    final_logit_softcapping: header.number('final_logit_softcapping') || null,
    sliding_window: header.number('attention.sliding_window') ?? 4096,
  }),
  losses: (config) => scaleLoss(config, GEMMA2_27B),
}

export const gemma3Gguf: DecoderGguf = {
  architecture: 'gemma3',
  keys: [
    'block_count',
    'context_length',
    'embedding_length',
    'feed_forward_length',
    'head_count',
    'head_count_kv',
    'rope',
    (k) => k.f32('rope.freq_base_swa', localRope(k.config)?.theta ?? LOCAL_THETA),
    'norm_epsilon',
    'head_lengths',
    'file_type',
    (k) => k.config.logitSoftcap && k.f32('final_logit_softcapping', k.config.logitSoftcap),
    'sliding_window',
  ],
  read: readGemma3,
  losses: (config) => [...scaleLoss(config, GEMMA3_27B), ...patternLoss(config)],
}

function localRope({ ropes, windows }: DecoderConfig) {
  return ropes.find((_, layer) => windows[layer] !== undefined)
}

function readGemma3(header: GgufHeader, config: PlainObject): PlainObject {
  const window = header.number('attention.sliding_window') ?? 0
  return {
    query_pre_attn_scalar: impliedScalar(config, GEMMA3_27B),
    final_logit_softcapping: header.number('final_logit_softcapping') || null,
    layer_types: layerTypes(header, config.num_hidden_layers as number, window > 0),
    sliding_window: window || null,
    rope_parameters: {
      full_attention: config.rope_parameters,
      sliding_attention: { rope_type: 'default', rope_theta: header.number('rope.freq_base_swa') ?? LOCAL_THETA },
    },
  }
}

/** `attention.sliding_window_pattern` is a flag for each layer, or the distance of the layers that see everything. */
function layerTypes({ keys, architecture, number }: GgufHeader, layers: number, hasWindow: boolean): string[] {
  const key = 'attention.sliding_window_pattern'
  const stated = keys.metadata.get(`${architecture}.${key}`) as { type: string; value: unknown } | undefined
  const flags = stated?.type === 'array' ? (stated.value as ArrayLike<unknown>) : undefined
  const pattern = flags ? 0 : (number(key) ?? GEMMA3_PATTERN)
  const isLocal = (layer: number) => (flags ? Boolean(flags[layer]) : pattern > 0 && (layer + 1) % pattern !== 0)
  return Array.from({ length: layers }, (_, layer) =>
    hasWindow && isLocal(layer) ? 'sliding_attention' : 'full_attention',
  )
}

/** The score scale's base that llama.cpp assumes. */
function impliedScalar(config: PlainObject, layersOf27B: number): number {
  const [layers, hidden, heads] = ['num_hidden_layers', 'hidden_size', 'num_attention_heads'].map((k) =>
    Number(config[k]),
  )
  return layers === layersOf27B ? Math.floor(hidden / heads) : (config.head_dim as number)
}

function scaleLoss({ layers, hiddenSize, heads, headDim, scoreScale }: DecoderConfig, layersOf27B: number): string[] {
  const implied = layers === layersOf27B ? Math.floor(hiddenSize / heads) : headDim
  if (scoreScale === implied ** -0.5) return []
  const stated = Math.round(scoreScale ** -2)
  return [`GGUF cannot say "query_pre_attn_scalar" ${stated}: the file runs with ${implied}, and other logits`]
}

function patternLoss({ windows }: DecoderConfig): string[] {
  if (windows.every((window, layer) => (window === undefined) === ((layer + 1) % GEMMA3_PATTERN === 0))) return []
  return [`the GGUF file does not say which layers have a window: it runs with all but every ${GEMMA3_PATTERN}th`]
}
