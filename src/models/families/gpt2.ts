// GPT-2: learned positions, LayerNorm before each branch, q, k and v in one linear. Its linears are Conv1D: weights lie [in, out].
import { ConfigError } from '../../core/errors.ts'
import { type JsonObject, type PlainObject, toPlain } from '../../core/json.ts'
import { GraphBuilder, type Value } from '../../graph/builder.ts'
import type { Graph } from '../../graph/types.ts'
import { activationOf, MAX_LAYERS } from '../decoder/config.ts'
import { ConfigFields } from '../decoder/fields.ts'
import type { GgufHeader, GgufProfile } from '../gguf/profile.ts'
import { attend, type LearnedConfig, plainMlp, writeSizes } from '../learned/block.ts'
import { EMBEDDING, HEAD, type ModelFamily, type ParameterName } from '../types.ts'

function parseConfig(json: JsonObject): LearnedConfig {
  const fields = new ConfigFields(toPlain(json) as PlainObject)
  const layers = fields.size('n_layer', 12, MAX_LAYERS)
  const heads = fields.size('n_head', 12)
  const hiddenSize = fields.size('n_embd', 768)
  if (hiddenSize % heads !== 0)
    throw new ConfigError(`Cannot read config.json: "n_embd" ${hiddenSize} is no multiple of "n_head" ${heads}`, {
      key: 'n_head',
      actual: heads,
    })
  if (fields.flag('add_cross_attention')) fields.fail('add_cross_attention', 'false: there is no encoder to attend to')
  const headDim = hiddenSize / heads
  const scale = fields.flag('scale_attn_weights', true) ? headDim ** -0.5 : 1
  const byLayer = fields.flag('scale_attn_by_inverse_layer_idx')
  return {
    modelType: fields.text('model_type'),
    vocabSize: fields.size('vocab_size', 50257),
    hiddenSize,
    layers,
    heads,
    kvHeads: heads,
    headDim,
    maxPositions: fields.size('n_positions', 1024),
    tied: fields.flag('tie_word_embeddings', true),
    ropes: new Array<undefined>(layers).fill(undefined),
    intermediateSize: fields.has('n_inner') ? fields.size('n_inner') : 4 * hiddenSize,
    normEps: fields.positive('layer_norm_epsilon', 1e-5),
    activation: activationOf(fields, 'activation_function', 'gelu_new'),
    scoreScales: Array.from({ length: layers }, (_, layer) => (byLayer ? scale / (layer + 1) : scale)),
    bias: true,
  }
}

function build(config: LearnedConfig): Graph {
  const { vocabSize, hiddenSize, maxPositions, normEps, tied } = config
  const g = new GraphBuilder()
  const tokens = g.embedding(EMBEDDING, vocabSize, hiddenSize) // [R, C]
  let x = g.add(tokens, g.positions('wpe.weight', maxPositions, hiddenSize))
  g.tap('embedding', x)
  for (let layer = 0; layer < config.layers; layer++) {
    const path = `layers.${layer}`
    x = g.add(x, attention(g, g.layerNorm(x, `${path}.ln_1`, normEps), layer, config))
    const normed = g.layerNorm(x, `${path}.ln_2`, normEps)
    x = g.add(x, plainMlp(g, normed, `${path}.mlp.c_fc`, `${path}.mlp.c_proj`, config))
    g.tap(path, x)
  }
  const last = g.layerNorm(g.selectRows(x), 'ln_f', normEps) // [R', C]
  g.tap('norm', last)
  return g.finish(g.linear(last, HEAD, vocabSize, { tied: tied ? EMBEDDING : undefined })) // [R', V]
}

function attention(g: GraphBuilder, x: Value, layer: number, config: LearnedConfig): Value {
  const path = `layers.${layer}.attn`
  const { hiddenSize: size } = config
  const all = g.linear(x, `${path}.c_attn`, 3 * size, { bias: true }) // [R, 3 C]: q, k, v
  const out = attend(g, g.slice(all, 0, size), g.slice(all, size, size), g.slice(all, 2 * size, size), layer, config)
  return g.linear(out, `${path}.c_proj`, size, { bias: true })
}

/** Modules of a layer: the graph's and Hugging Face's name, GGUF's, and whether it is a Conv1D. */
const LAYER: readonly (readonly [string, string, boolean])[] = [
  ['ln_1', 'attn_norm', false],
  ['attn.c_attn', 'attn_qkv', true],
  ['attn.c_proj', 'attn_output', true],
  ['ln_2', 'ffn_norm', false],
  ['mlp.c_fc', 'ffn_up', true],
  ['mlp.c_proj', 'ffn_down', true],
]

function names({ layers }: LearnedConfig): ParameterName[] {
  const out: ParameterName[] = [
    { path: EMBEDDING, huggingFace: 'transformer.wte.weight', gguf: 'token_embd.weight' },
    { path: 'wpe.weight', huggingFace: 'transformer.wpe.weight', gguf: 'position_embd.weight' },
  ]
  const module = (path: string, huggingFace: string, gguf: string, isConv1D = false) => {
    const huggingFaceOp = isConv1D ? ({ kind: 'transpose' } as const) : undefined
    out.push({ path: `${path}.weight`, huggingFace: `${huggingFace}.weight`, gguf: `${gguf}.weight`, huggingFaceOp })
    out.push({ path: `${path}.bias`, huggingFace: `${huggingFace}.bias`, gguf: `${gguf}.bias` })
  }
  for (let layer = 0; layer < layers; layer++)
    for (const [path, gguf, isConv1D] of LAYER)
      module(`layers.${layer}.${path}`, `transformer.h.${layer}.${path}`, `blk.${layer}.${gguf}`, isConv1D)
  module('ln_f', 'transformer.ln_f', 'output_norm')
  out.push({ path: `${HEAD}.weight`, huggingFace: 'lm_head.weight', gguf: 'output.weight' })
  return out
}

const gguf: GgufProfile<LearnedConfig> = {
  architecture: 'gpt2',
  readConfig: ({ need }: GgufHeader) => ({
    n_layer: need('block_count'),
    n_positions: need('context_length'),
    n_embd: need('embedding_length'),
    n_inner: need('feed_forward_length'),
    n_head: need('attention.head_count'),
    layer_norm_epsilon: need('attention.layer_norm_epsilon'),
  }),
  writeKeys: (keys) => {
    writeSizes(keys)
    keys.fileType()
  },
  losses: ({ headDim, scoreScales, activation }) => [
    ...(scoreScales.every((scale) => scale === headDim ** -0.5)
      ? []
      : ['GGUF cannot say how this model scales its scores: the file has other logits']),
    ...(activation === 'gelu_tanh' ? [] : [`GGUF cannot say "activation_function": the file runs with gelu_new`]),
  ],
}

export const gpt2: ModelFamily<LearnedConfig> = {
  modelTypes: ['gpt2'],
  className: 'GPT2LMHeadModel',
  parseConfig,
  build,
  names,
  gguf,
}
