import { decoderFamily } from '../decoder/index.ts'

/** Qwen3 (dense): q and k are normed over the head before the rotation, windows by layer. */
export const qwen3 = decoderFamily({
  modelTypes: ['qwen3'],
  className: 'Qwen3ForCausalLM',
  ggufArchitecture: 'qwen3',
  traits: {
    vocabSize: 151936,
    intermediateSize: 22016,
    maxPositions: 32768,
    kvHeads: 32,
    headDim: 128,
    qkNorm: true,
    attentionBias: 'config',
    window: 'layers',
  },
})
