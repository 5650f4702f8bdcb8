import { decoderFamily } from '../decoder/index.ts'

/** Granite 3 (dense): a Llama with factors on embeddings, scores, branches and logits. */
export const granite = decoderFamily({
  modelTypes: ['granite'],
  className: 'GraniteForCausalLM',
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
