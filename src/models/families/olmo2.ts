import { decoderFamily } from '../decoder/index.ts'

/** OLMo 2: norms come after each branch, and q and k are normed over the whole projection. */
export const olmo2 = decoderFamily({
  modelTypes: ['olmo2'],
  className: 'Olmo2ForCausalLM',
  traits: {
    vocabSize: 50304,
    intermediateSize: 11008,
    maxPositions: 2048,
    normEps: 1e-5,
    attentionBias: 'config',
    placement: 'after',
    qkNorm: 'full',
  },
})
