import { decoderFamily } from '../decoder/index.ts'

/** Qwen2 and Qwen2.5: biases on q, k and v, windows by layer. */
export const qwen2 = decoderFamily({
  modelTypes: ['qwen2'],
  className: 'Qwen2ForCausalLM',
  ggufArchitecture: 'qwen2',
  traits: {
    vocabSize: 151936,
    intermediateSize: 22016,
    maxPositions: 32768,
    kvHeads: 32,
    attentionBias: 'qkv',
    window: 'layers',
  },
})
