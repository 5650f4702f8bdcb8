// Names of the parameters: graph path <-> Hugging Face <-> GGUF, with the row permutation that llama GGUF files have on q and k.
import type { DecoderConfig, ParameterName } from '../types.ts'

/** Module inside a layer: Hugging Face's name (also the graph's) and GGUF's. */
const LAYER: readonly (readonly [string, string])[] = [
  ['input_layernorm', 'attn_norm'],
  ['self_attn.q_proj', 'attn_q'],
  ['self_attn.k_proj', 'attn_k'],
  ['self_attn.v_proj', 'attn_v'],
  ['self_attn.o_proj', 'attn_output'],
  ['self_attn.q_norm', 'attn_q_norm'],
  ['self_attn.k_norm', 'attn_k_norm'],
  ['post_attention_layernorm', 'ffn_norm'],
  ['mlp.gate_proj', 'ffn_gate'],
  ['mlp.up_proj', 'ffn_up'],
  ['mlp.down_proj', 'ffn_down'],
]

/** `.weight` and `.bias` of every module; `permuted` marks the families whose GGUF files interleave q and k rows. */
export function decoderNames(config: DecoderConfig, permuted: boolean): ParameterName[] {
  const names: ParameterName[] = []
  const module = (path: string, huggingFace: string, gguf: string, heads?: number) => {
    for (const suffix of ['.weight', '.bias']) {
      const ggufOp = permuted && heads ? ({ kind: 'permuteRope', heads } as const) : undefined
      names.push({ path: path + suffix, huggingFace: huggingFace + suffix, gguf: gguf + suffix, ggufOp })
    }
  }
  module('embed_tokens', 'model.embed_tokens', 'token_embd')
  for (let layer = 0; layer < config.layers; layer++) {
    for (const [path, gguf] of LAYER) {
      const heads =
        path === 'self_attn.q_proj' ? config.heads : path === 'self_attn.k_proj' ? config.kvHeads : undefined
      module(`layers.${layer}.${path}`, `model.layers.${layer}.${path}`, `blk.${layer}.${gguf}`, heads)
    }
  }
  module('norm', 'model.norm', 'output_norm')
  module('lm_head', 'lm_head', 'output')
  return names
}
