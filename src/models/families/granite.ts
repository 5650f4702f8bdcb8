import { LLAMA_LIKE_KEYS } from '../decoder/gguf.ts'
import { decoderFamily } from '../decoder/index.ts'

/** Granite 3 (dense): a Llama with factors on embeddings, scores, branches and logits. */
export const granite = decoderFamily({
  modelTypes: ['granite'],
  className: 'GraniteForCausalLM',
  gguf: {
    architecture: 'granite',
    permutesRope: true,
    keys: [
      ...LLAMA_LIKE_KEYS.filter((key) => key !== 'stated_head_lengths'),
      (k) => k.f32('attention.scale', k.config.scoreScale),
      (k) => k.f32('embedding_scale', k.config.embeddingScale),
      (k) => k.f32('residual_scale', k.config.residualScale),
      (k) => k.f32('logit_scale', k.config.logitDivisor),
    ],
    read: ({ number, need }, config) => ({
      attention_multiplier: number('attention.scale') || (config.head_dim as number) ** -0.5,
      embedding_multiplier: number('embedding_scale') || 1,
      residual_multiplier: number('residual_scale') || 1,
      logits_scaling: need('logit_scale'),
    }),
  },
  traits: {
    vocabSize: 32000,
    intermediateSize: 11008,
    maxPositions: 2048,
    attentionBias: 'config',
    mlpBias: 'config',
    factors: (fields) => ({
      embeddingScale: fields.positive('embedding_multiplier', 1),
      scoreScale: fields.positive('attention_multiplier', 1),
      residualScale: fields.positive('residual_multiplier', 1),
      logitDivisor: fields.positive('logits_scaling', 1),
    }),
  },
})
