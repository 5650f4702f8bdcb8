// The pre-norm gated decoder of llama, mistral, qwen2 and qwen3: one graph for float, quantised and training.
import { GraphBuilder, type Value } from '../../graph/builder.ts'
import type { Graph } from '../../graph/types.ts'
import { ropeSpec } from '../rope.ts'
import type { DecoderConfig } from '../types.ts'

/** Path of the token table, which is the head's too where they are tied. */
export const EMBEDDING = 'embed_tokens.weight'

/** Taps: `embedding`, `layers.N` (the residual after layer N), `norm` (what the head reads, wanted rows only). */
export function buildDecoder(config: DecoderConfig): Graph {
  const g = new GraphBuilder()
  const rope = g.rope(ropeSpec(config.rope))
  let x = g.embedding(EMBEDDING, config.vocabSize, config.hiddenSize) // [R, C]
  g.tap('embedding', x)
  for (let layer = 0; layer < config.layers; layer++) {
    const path = `layers.${layer}`
    x = g.add(x, attention(g, g.rmsNorm(x, `${path}.input_layernorm`, config.normEps), layer, rope, config))
    x = g.add(x, mlp(g, g.rmsNorm(x, `${path}.post_attention_layernorm`, config.normEps), `${path}.mlp`, config))
    g.tap(path, x)
  }
  const last = g.rmsNorm(g.selectRows(x), 'norm', config.normEps) // [R', C]
  g.tap('norm', last)
  return g.finish(g.linear(last, 'lm_head', config.vocabSize, { tied: config.tied ? EMBEDDING : undefined })) // [R', V]
}

function attention(g: GraphBuilder, x: Value, layer: number, rope: number, config: DecoderConfig): Value {
  const path = `layers.${layer}.self_attn`
  const { heads, kvHeads, headDim } = config
  let q = g.linear(x, `${path}.q_proj`, heads * headDim, { bias: config.qkvBias }) // [R, H * D]
  let k = g.linear(x, `${path}.k_proj`, kvHeads * headDim, { bias: config.qkvBias }) // [R, KV * D]
  const v = g.linear(x, `${path}.v_proj`, kvHeads * headDim, { bias: config.qkvBias })
  if (config.qkNorm) {
    q = g.headNorm(q, `${path}.q_norm`, headDim, config.normEps)
    k = g.headNorm(k, `${path}.k_norm`, headDim, config.normEps)
  }
  q = g.rotate(q, rope, headDim)
  k = g.rotate(k, rope, headDim)
  const window = config.windows[layer]
  const out = g.attention(q, k, v, { layer, heads, kvHeads, headDim, scale: headDim ** -0.5, window })
  return g.linear(out, `${path}.o_proj`, config.hiddenSize, { bias: config.outputBias }) // [R, C]
}

function mlp(g: GraphBuilder, x: Value, path: string, config: DecoderConfig): Value {
  const bias = config.mlpBias
  const gate = g.activation(g.linear(x, `${path}.gate_proj`, config.intermediateSize, { bias }), config.activation)
  const up = g.linear(x, `${path}.up_proj`, config.intermediateSize, { bias })
  return g.linear(g.mul(gate, up), `${path}.down_proj`, config.hiddenSize, { bias })
}
