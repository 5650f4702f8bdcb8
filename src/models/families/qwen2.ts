import { decoderFamily } from '../decoder/index.ts'
import { whereUsed } from '../decoder/windows.ts'

/** Qwen2 and 3: windows where they are switched on, from layer `max_window_layers` on. */
export const qwenWindows = whereUsed((fields, layer) => layer >= fields.count('max_window_layers', 28), 4096)

/** Qwen2 and Qwen2.5: biases on q, k and v, windows by layer. */
export const qwen2 = decoderFamily({
  modelTypes: ['qwen2'],
  className: 'Qwen2ForCausalLM',
  gguf: { architecture: 'qwen2' },
  traits: {
    vocabSize: 151936,
    intermediateSize: 22016,
    maxPositions: 32768,
    kvHeads: 32,
    attentionBias: 'qkv',
    windows: qwenWindows,
  },
})
