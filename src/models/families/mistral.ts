import { LLAMA_KEYS } from '../decoder/gguf.ts'
import { decoderFamily } from '../decoder/index.ts'
import { onEveryLayer } from '../decoder/windows.ts'

/** Mistral: a window on every layer where one is set. GGUF files call it `llama` and do not keep the window. */
export const mistral = decoderFamily({
  modelTypes: ['mistral'],
  className: 'MistralForCausalLM',
  gguf: { architecture: 'llama', permutesRope: true, keys: LLAMA_KEYS },
  traits: {
    vocabSize: 32000,
    intermediateSize: 14336,
    maxPositions: 131072,
    kvHeads: 8,
    attentionBias: 'none',
    windows: onEveryLayer(4096),
  },
})
