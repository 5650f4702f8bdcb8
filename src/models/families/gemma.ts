// Gemma 1 to 3 (text): norms multiply by 1 + w, embeddings are scaled by sqrt(hidden), heads are tied and wider than hidden / heads.
import type { Activation } from '../../graph/types.ts'
import { activationOf, type RopeSizes } from '../decoder/config.ts'
import type { ConfigFields } from '../decoder/fields.ts'
import { decoderFamily } from '../decoder/index.ts'
import { alternating } from '../decoder/windows.ts'
import { gemma2Gguf, gemma3Gguf, gemmaGguf } from './gemma-gguf.ts'
import { ropesByLayer } from './gemma-ropes.ts'

const traits = {
  vocabSize: 256000,
  intermediateSize: 9216,
  maxPositions: 8192,
  hiddenSize: 2304,
  layers: 26,
  heads: 8,
  kvHeads: 4,
  headDim: 256,
  tied: true,
  normAddsOne: true,
  attentionBias: 'config',
  activation: (fields: ConfigFields) => activationOf(fields, 'hidden_activation', 'gelu_pytorch_tanh'),
} as const

/** The reference rounds the factor to the weights' dtype; here it is float32, as everything that runs. */
const embeddingScale = ({ hiddenSize }: RopeSizes) => Math.fround(Math.sqrt(hiddenSize))

const scoreScale = (fields: ConfigFields) => fields.positive('query_pre_attn_scalar', 256) ** -0.5

/** A cap that is null or absent is none; `fallback` stands for an absent one. */
function cap(fields: ConfigFields, key: string, fallback?: number): number | undefined {
  return fields.isNull(key) || (fallback === undefined && !fields.has(key)) ? undefined : fields.positive(key, fallback)
}

/** `hidden_activation`, else the older `hidden_act`, whose `gelu` means its tanh form. */
function gemmaActivation(fields: ConfigFields): Activation {
  if (fields.has('hidden_activation')) return activationOf(fields, 'hidden_activation', 'gelu_pytorch_tanh')
  const found = activationOf(fields, 'hidden_act', 'gelu_pytorch_tanh')
  return found === 'gelu' ? 'gelu_tanh' : found
}

export const gemma = decoderFamily({
  modelTypes: ['gemma'],
  className: 'GemmaForCausalLM',
  gguf: gemmaGguf,
  traits: {
    ...traits,
    intermediateSize: 24576,
    hiddenSize: 3072,
    layers: 28,
    heads: 16,
    kvHeads: 16,
    activation: gemmaActivation,
    factors: (_, sizes) => ({ embeddingScale: embeddingScale(sizes) }),
  },
})

/** Gemma 2: a norm before and after each branch, windows on every other layer, caps on scores and logits. */
export const gemma2 = decoderFamily({
  modelTypes: ['gemma2'],
  className: 'Gemma2ForCausalLM',
  gguf: gemma2Gguf,
  traits: {
    ...traits,
    placement: 'sandwich',
    windows: alternating(() => 2, 4096),
    factors: (fields, sizes) => ({
      embeddingScale: embeddingScale(sizes),
      scoreScale: scoreScale(fields),
      scoreSoftcap: cap(fields, 'attn_logit_softcapping', 50),
      logitSoftcap: cap(fields, 'final_logit_softcapping', 30),
    }),
  },
})

/** Full attention on every so many layers. */
export const gemma3Pattern = (fields: ConfigFields) =>
  fields.size(fields.has('sliding_window_pattern') ? 'sliding_window_pattern' : '_sliding_window_pattern', 6)

/** Gemma 3 (text): q and k are normed over the head, windows on 5 of 6 layers, which have a rope of their own. */
export const gemma3 = decoderFamily({
  modelTypes: ['gemma3_text'],
  className: 'Gemma3ForCausalLM',
  gguf: gemma3Gguf,
  traits: {
    ...traits,
    vocabSize: 262208,
    maxPositions: 131072,
    placement: 'sandwich',
    qkNorm: 'head',
    windows: alternating(gemma3Pattern, 4096),
    ropes: (config, sizes) => ropesByLayer(config, sizes, gemma3Pattern),
    // The caps' keys are there for Gemma 2's sake; that of the scores is not used.
    factors: (fields, sizes) => ({
      embeddingScale: embeddingScale(sizes),
      scoreScale: scoreScale(fields),
      logitSoftcap: cap(fields, 'final_logit_softcapping'),
    }),
  },
})
