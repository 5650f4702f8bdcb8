import { KEYS_WITH_HEADS } from '../decoder/gguf.ts'
import { decoderFamily } from '../decoder/index.ts'
import { qwenWindows } from './qwen2.ts'

/** Qwen3 (dense): q and k are normed over the head before the rotation, windows by layer. */
export const qwen3 = decoderFamily({
  modelTypes: ['qwen3'],
  className: 'Qwen3ForCausalLM',
  gguf: { architecture: 'qwen3', keys: KEYS_WITH_HEADS },
  traits: {
    vocabSize: 151936,
    intermediateSize: 22016,
    maxPositions: 32768,
    kvHeads: 32,
    headDim: 128,
    qkNorm: 'head',
    attentionBias: 'config',
    windows: qwenWindows,
  },
})
