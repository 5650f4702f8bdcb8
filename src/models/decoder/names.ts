// Names of the parameters: graph path <-> Hugging Face <-> GGUF, with what GGUF does to q, k and the norms.
import type { WeightOp } from '../../convert/ops.ts'
import type { ParameterName } from '../types.ts'
import type { DecoderConfig, Placement } from './types.ts'

/** Module inside a layer: Hugging Face's name (also the graph's) and GGUF's. */
type Module = readonly [string, string]

const ATTENTION: readonly Module[] = [
  ['self_attn.qkv_proj', 'attn_qkv'],
  ['self_attn.q_proj', 'attn_q'],
  ['self_attn.k_proj', 'attn_k'],
  ['self_attn.v_proj', 'attn_v'],
  ['self_attn.o_proj', 'attn_output'],
  ['self_attn.q_norm', 'attn_q_norm'],
  ['self_attn.k_norm', 'attn_k_norm'],
]
const MLP: readonly Module[] = [
  // Gate first, then up.
  ['mlp.gate_up_proj', 'ffn_up'],
  ['mlp.gate_proj', 'ffn_gate'],
  ['mlp.up_proj', 'ffn_up'],
  ['mlp.down_proj', 'ffn_down'],
]
/** GGUF names a norm by its place, Hugging Face by its neighbour. */
const NORMS: Readonly<Record<Placement, readonly Module[]>> = {
  pre: [
    ['input_layernorm', 'attn_norm'],
    ['post_attention_layernorm', 'ffn_norm'],
  ],
  sandwich: [
    ['input_layernorm', 'attn_norm'],
    ['post_attention_layernorm', 'post_attention_norm'],
    ['pre_feedforward_layernorm', 'ffn_norm'],
    ['post_feedforward_layernorm', 'post_ffw_norm'],
  ],
  after: [
    ['post_attention_layernorm', 'post_attention_norm'],
    ['post_feedforward_layernorm', 'post_ffw_norm'],
  ],
}

/** `.weight` and `.bias` of every module; `permuted` marks the families whose GGUF files interleave q and k rows. */
export function decoderNames(config: DecoderConfig, permuted: boolean): ParameterName[] {
  const names: ParameterName[] = []
  const module = (path: string, huggingFace: string, gguf: string, ggufOp?: WeightOp) => {
    for (const suffix of ['.weight', '.bias'])
      names.push({ path: path + suffix, huggingFace: huggingFace + suffix, gguf: gguf + suffix, ggufOp })
  }
  module('embed_tokens', 'model.embed_tokens', 'token_embd')
  for (let layer = 0; layer < config.layers; layer++) {
    for (const [path, gguf] of [...ATTENTION, ...MLP, ...NORMS[config.placement]])
      module(
        `layers.${layer}.${path}`,
        `model.layers.${layer}.${path}`,
        `blk.${layer}.${gguf}`,
        opOf(path, config, permuted),
      )
  }
  module('norm', 'model.norm', 'output_norm', opOf('norm', config, permuted))
  module('lm_head', 'lm_head', 'output')
  return names
}

function opOf(path: string, config: DecoderConfig, permuted: boolean): WeightOp | undefined {
  if (path.endsWith('norm')) return config.normAddsOne ? { kind: 'addOne' } : undefined
  if (!permuted) return undefined
  if (path === 'self_attn.q_proj') return { kind: 'permuteRope', heads: config.heads }
  if (path === 'self_attn.k_proj') return { kind: 'permuteRope', heads: config.kvHeads }
  return undefined
}
