import { LLAMA_KEYS } from '../decoder/gguf.ts'
import { decoderFamily } from '../decoder/index.ts'

/** Llama 1 to 3, SmolLM 1 and 2, and whatever else calls itself `llama`. */
export const llama = decoderFamily({
  modelTypes: ['llama'],
  className: 'LlamaForCausalLM',
  gguf: { architecture: 'llama', permutesRope: true, keys: LLAMA_KEYS },
  traits: {
    vocabSize: 32000,
    intermediateSize: 11008,
    maxPositions: 2048,
    attentionBias: 'config',
    mlpBias: 'config',
  },
})
