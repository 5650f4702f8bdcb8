import { decoderFamily } from '../decoder/index.ts'

/** Llama 1 to 3, SmolLM 1 and 2, and whatever else calls itself `llama`. */
export const llama = decoderFamily({
  modelTypes: ['llama'],
  className: 'LlamaForCausalLM',
  ggufArchitecture: 'llama',
  ggufPermutesRope: true,
  traits: {
    vocabSize: 32000,
    intermediateSize: 11008,
    maxPositions: 2048,
    attentionBias: 'config',
    mlpBias: 'config',
  },
})
