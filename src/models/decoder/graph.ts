// The gated decoder: one graph for its families, and for float, quantised and training alike.
import { GraphBuilder, type Value } from '../../graph/builder.ts'
import type { Graph } from '../../graph/types.ts'
import { addRopes } from '../rope.ts'
import { EMBEDDING, HEAD } from '../types.ts'
import type { DecoderConfig } from './types.ts'

/** Taps: `embedding`, `layers.N` (the residual after layer N), `norm` (what the head reads, wanted rows only). */
export function buildDecoder(config: DecoderConfig): Graph {
  const { vocabSize, hiddenSize, normEps, normAddsOne, tied, logitDivisor, logitSoftcap } = config
  const g = new GraphBuilder()
  const ropes = addRopes(g, config.ropes)
  let x = g.embedding(EMBEDDING, vocabSize, hiddenSize, config.embeddingScale) // [R, C]
  g.tap('embedding', x)
  for (let layer = 0; layer < config.layers; layer++) {
    x = addLayer(g, x, layer, ropes[layer], config)
    g.tap(`layers.${layer}`, x)
  }
  const last = g.rmsNorm(g.selectRows(x), 'norm', normEps, normAddsOne) // [R', C]
  g.tap('norm', last)
  const logits = g.scale(g.linear(last, HEAD, vocabSize, { tied: tied ? EMBEDDING : undefined }), 1 / logitDivisor)
  return g.finish(logitSoftcap ? g.softcap(logits, logitSoftcap) : logits) // [R', V]
}

function addLayer(g: GraphBuilder, x: Value, layer: number, rope: number | undefined, config: DecoderConfig): Value {
  const path = `layers.${layer}`
  const { placement, residualScale } = config
  const norm = (value: Value, name: string) => g.rmsNorm(value, `${path}.${name}`, config.normEps, config.normAddsOne)
  const attend = (value: Value) => attention(g, value, layer, rope, config)
  const feed = (value: Value) => mlp(g, value, `${path}.mlp`, config)
  const plus = (branch: Value) => (x = g.add(x, g.scale(branch, residualScale)))
  switch (placement) {
    case 'pre':
      plus(attend(norm(x, 'input_layernorm')))
      return plus(feed(norm(x, 'post_attention_layernorm')))
    case 'sandwich':
      plus(norm(attend(norm(x, 'input_layernorm')), 'post_attention_layernorm'))
      return plus(norm(feed(norm(x, 'pre_feedforward_layernorm')), 'post_feedforward_layernorm'))
    case 'after':
      plus(norm(attend(x), 'post_attention_layernorm'))
      return plus(norm(feed(x), 'post_feedforward_layernorm'))
    default:
      return placement satisfies never
  }
}

function attention(g: GraphBuilder, x: Value, layer: number, rope: number | undefined, config: DecoderConfig): Value {
  const path = `layers.${layer}.self_attn`
  const { heads, kvHeads, headDim } = config
  const projected = config.fused ? splitQkv(g, x, path, config) : separateQkv(g, x, path, config)
  const rotated = (value: Value, name: string) => {
    const normed = qkNorm(g, value, `${path}.${name}`, config)
    return rope === undefined ? normed : g.rotate(normed, rope, headDim)
  }
  const q = rotated(projected.q, 'q_norm')
  const k = rotated(projected.k, 'k_norm')
  const out = g.attention(q, k, projected.v, {
    layer,
    heads,
    kvHeads,
    headDim,
    scale: config.scoreScale,
    window: config.windows[layer],
    softcap: config.scoreSoftcap,
  })
  return g.linear(out, `${path}.o_proj`, config.hiddenSize, { bias: config.outputBias }) // [R, C]
}

interface Projections {
  readonly q: Value // [R, H * D]
  readonly k: Value // [R, KV * D]
  readonly v: Value // [R, KV * D]
}

function separateQkv(g: GraphBuilder, x: Value, path: string, config: DecoderConfig): Projections {
  const { heads, kvHeads, headDim, qkvBias: bias } = config
  return {
    q: g.linear(x, `${path}.q_proj`, heads * headDim, { bias }),
    k: g.linear(x, `${path}.k_proj`, kvHeads * headDim, { bias }),
    v: g.linear(x, `${path}.v_proj`, kvHeads * headDim, { bias }),
  }
}

/** One linear whose rows are those of q, k and v. */
function splitQkv(g: GraphBuilder, x: Value, path: string, config: DecoderConfig): Projections {
  const { headDim, qkvBias: bias } = config
  const [q, kv] = [config.heads * headDim, config.kvHeads * headDim]
  const all = g.linear(x, `${path}.qkv_proj`, q + 2 * kv, { bias })
  return { q: g.slice(all, 0, q), k: g.slice(all, q, kv), v: g.slice(all, q + kv, kv) }
}

function qkNorm(g: GraphBuilder, x: Value, path: string, config: DecoderConfig): Value {
  const { normEps, normAddsOne } = config
  switch (config.qkNorm) {
    case undefined:
      return x
    case 'head':
      return g.headNorm(x, path, config.headDim, normEps, normAddsOne)
    case 'full':
      return g.rmsNorm(x, path, normEps, normAddsOne)
    default:
      return config.qkNorm satisfies never
  }
}

function mlp(g: GraphBuilder, x: Value, path: string, config: DecoderConfig): Value {
  const { intermediateSize: size, mlpBias: bias, activation } = config
  const [gate, up] = config.fused
    ? split(g, g.linear(x, `${path}.gate_up_proj`, 2 * size, { bias }))
    : [g.linear(x, `${path}.gate_proj`, size, { bias }), g.linear(x, `${path}.up_proj`, size, { bias })]
  return g.linear(g.mul(g.activation(gate, activation), up), `${path}.down_proj`, config.hiddenSize, { bias })
}

/** Both halves of a value. */
function split(g: GraphBuilder, x: Value): [Value, Value] {
  const half = x.width / 2
  return [g.slice(x, 0, half), g.slice(x, half, half)]
}
