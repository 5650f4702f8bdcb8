import { decoderFamily } from '../decoder/index.ts'

/** Mistral: a window on every layer where one is set. GGUF files call it `llama` and do not keep the window. */
export const mistral = decoderFamily({
  modelTypes: ['mistral'],
  className: 'MistralForCausalLM',
  ggufArchitecture: 'llama',
  ggufPermutesRope: true,
  traits: {
    vocabSize: 32000,
    intermediateSize: 14336,
    maxPositions: 131072,
    kvHeads: 8,
    attentionBias: 'none',
    window: 'all',
  },
})
