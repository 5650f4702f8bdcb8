// OPT: learned positions from 2 on, LayerNorm before each branch (350m: after it), ReLU; token rows may be narrower than the model.
import { ConfigError, UnsupportedError } from '../../core/errors.ts'
import { type JsonObject, type PlainObject, toPlain } from '../../core/json.ts'
import { GraphBuilder, type Value } from '../../graph/builder.ts'
import type { Graph } from '../../graph/types.ts'
import { activationOf, MAX_LAYERS } from '../decoder/config.ts'
import { ConfigFields } from '../decoder/fields.ts'
import type { GgufProfile } from '../gguf/profile.ts'
import { attend, type LearnedConfig, plainMlp, writeSizes } from '../learned/block.ts'
import { EMBEDDING, HEAD, type ModelFamily, type ParameterName } from '../types.ts'

interface OptConfig extends LearnedConfig {
  /** Width of the token rows; where it is not the model's, linears lead in and out. */
  readonly embeddingSize: number
  /** LayerNorm before each branch, or after its addition. */
  readonly normsBefore: boolean
  readonly finalNorm: boolean
}

/** Rows of the position table before that of position 0. */
const OFFSET = 2
const NORM_EPS = 1e-5

function parseConfig(json: JsonObject): OptConfig {
  const fields = new ConfigFields(toPlain(json) as PlainObject)
  const layers = fields.size('num_hidden_layers', 12, MAX_LAYERS)
  const heads = fields.size('num_attention_heads', 12)
  const hiddenSize = fields.size('hidden_size', 768)
  if (hiddenSize % heads !== 0)
    throw new ConfigError(
      `Cannot read config.json: "hidden_size" ${hiddenSize} is no multiple of "num_attention_heads" ${heads}`,
      { key: 'num_attention_heads', actual: heads },
    )
  if (!fields.flag('layer_norm_elementwise_affine', true))
    throw new UnsupportedError('Norms without weights are not supported in this family', {
      key: 'layer_norm_elementwise_affine',
    })
  const headDim = hiddenSize / heads
  const normsBefore = fields.flag('do_layer_norm_before', true)
  return {
    modelType: fields.text('model_type'),
    vocabSize: fields.size('vocab_size', 50272),
    hiddenSize,
    embeddingSize: fields.size('word_embed_proj_dim', hiddenSize),
    layers,
    heads,
    kvHeads: heads,
    headDim,
    maxPositions: fields.size('max_position_embeddings', 2048),
    tied: fields.flag('tie_word_embeddings', true),
    ropes: new Array<undefined>(layers).fill(undefined),
    intermediateSize: fields.size('ffn_dim', 3072),
    normEps: NORM_EPS,
    normsBefore,
    finalNorm: normsBefore && !fields.flag('_remove_final_layer_norm'),
    activation: activationOf(fields, 'activation_function', 'relu'),
    scoreScales: new Array<number>(layers).fill(headDim ** -0.5),
    bias: fields.flag('enable_bias', true),
  }
}

function build(config: OptConfig): Graph {
  const { vocabSize, hiddenSize, embeddingSize, maxPositions, normEps, tied } = config
  const projects = embeddingSize !== hiddenSize
  const g = new GraphBuilder()
  const tokens = g.embedding(EMBEDDING, vocabSize, embeddingSize) // [R, E]
  const positions = g.positions('embed_positions.weight', maxPositions + OFFSET, hiddenSize, OFFSET)
  let x = g.add(projects ? g.linear(tokens, 'project_in', hiddenSize) : tokens, positions) // [R, C]
  g.tap('embedding', x)
  for (let layer = 0; layer < config.layers; layer++) {
    x = addLayer(g, x, layer, config)
    g.tap(`layers.${layer}`, x)
  }
  x = g.selectRows(x) // [R', C]
  if (config.finalNorm) x = g.layerNorm(x, 'final_layer_norm', normEps)
  if (projects) x = g.linear(x, 'project_out', embeddingSize) // [R', E]
  g.tap('norm', x)
  return g.finish(g.linear(x, HEAD, vocabSize, { tied: tied ? EMBEDDING : undefined })) // [R', V]
}

function addLayer(g: GraphBuilder, x: Value, layer: number, config: OptConfig): Value {
  const path = `layers.${layer}`
  const norm = (value: Value, name: string) => g.layerNorm(value, `${path}.${name}`, config.normEps)
  const branches: readonly (readonly [string, (value: Value) => Value])[] = [
    ['self_attn_layer_norm', (value) => attention(g, value, layer, config)],
    ['final_layer_norm', (value) => plainMlp(g, value, `${path}.fc1`, `${path}.fc2`, config)],
  ]
  for (const [name, branch] of branches)
    x = config.normsBefore ? g.add(x, branch(norm(x, name))) : norm(g.add(x, branch(x)), name)
  return x
}

function attention(g: GraphBuilder, x: Value, layer: number, config: OptConfig): Value {
  const path = `layers.${layer}.self_attn`
  const linear = (value: Value, name: string) =>
    g.linear(value, `${path}.${name}`, config.hiddenSize, { bias: config.bias })
  const out = attend(g, linear(x, 'q_proj'), linear(x, 'k_proj'), linear(x, 'v_proj'), layer, config)
  return linear(out, 'out_proj')
}

/** Modules of a layer in the reference's order, and what GGUF would call them. */
const LAYER: readonly (readonly [string, string])[] = [
  ['self_attn.k_proj', 'attn_k'],
  ['self_attn.v_proj', 'attn_v'],
  ['self_attn.q_proj', 'attn_q'],
  ['self_attn.out_proj', 'attn_output'],
  ['self_attn_layer_norm', 'attn_norm'],
  ['fc1', 'ffn_up'],
  ['fc2', 'ffn_down'],
  ['final_layer_norm', 'ffn_norm'],
]

function names({ layers }: OptConfig): ParameterName[] {
  const out: ParameterName[] = []
  const module = (path: string, gguf: string) => {
    for (const suffix of ['.weight', '.bias'])
      out.push({ path: path + suffix, huggingFace: `model.decoder.${path}${suffix}`, gguf: gguf + suffix })
  }
  module('embed_tokens', 'token_embd')
  module('embed_positions', 'position_embd')
  module('project_out', 'output_proj')
  module('project_in', 'token_proj')
  module('final_layer_norm', 'output_norm')
  for (let layer = 0; layer < layers; layer++)
    for (const [path, gguf] of LAYER) module(`layers.${layer}.${path}`, `blk.${layer}.${gguf}`)
  out.push({ path: `${HEAD}.weight`, huggingFace: 'lm_head.weight', gguf: 'output.weight' })
  return out
}

/** llama.cpp has no OPT: the keys are those of GPT-2, and what only OPT has under names of our own. */
const gguf: GgufProfile<OptConfig> = {
  architecture: 'opt',
  isOwn: true,
  readConfig: ({ need, keys, architecture, checkpoint }) => {
    const flag = (key: string, fallback: boolean) => keys.boolean(`${architecture}.${key}`) ?? fallback
    return {
      num_hidden_layers: need('block_count'),
      max_position_embeddings: need('context_length'),
      hidden_size: need('embedding_length'),
      ffn_dim: need('feed_forward_length'),
      num_attention_heads: need('attention.head_count'),
      word_embed_proj_dim: need('word_embedding_length'),
      do_layer_norm_before: flag('norms_before', true),
      _remove_final_layer_norm: !flag('final_norm', true),
      activation_function: keys.string(`${architecture}.activation`) ?? 'relu',
      enable_bias: checkpoint.tensors.has('blk.0.attn_q.bias'),
    }
  },
  writeKeys: (keys) => {
    const { config } = keys
    writeSizes(keys)
    keys.u32('word_embedding_length', config.embeddingSize)
    keys.bool('norms_before', config.normsBefore)
    keys.bool('final_norm', config.finalNorm)
    keys.string('activation', config.activation === 'gelu_tanh' ? 'gelu_new' : config.activation)
    keys.fileType()
  },
}

export const opt: ModelFamily<OptConfig> = {
  modelTypes: ['opt'],
  className: 'OPTForCausalLM',
  parseConfig,
  build,
  names,
  gguf,
}
