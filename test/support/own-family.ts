// The family of docs/add-a-family.md, word for word: a family of one's own is one record, and nothing else changes.
import {
  addRopes,
  ConfigFields,
  EMBEDDING,
  GraphBuilder,
  HEAD,
  type ModelConfig,
  type ModelFamily,
  type ParameterName,
  type PlainObject,
  parseRope,
  toPlain,
} from '../../src/models/index.ts'

interface StarcoderConfig extends ModelConfig {
  readonly innerSize: number
  readonly eps: number
  readonly bias: boolean
  readonly window: number | undefined
}

export const starcoder2: ModelFamily<StarcoderConfig> = {
  modelTypes: ['starcoder2'],
  className: 'Starcoder2ForCausalLM',
  parseConfig(json) {
    const config = toPlain(json) as PlainObject
    const fields = new ConfigFields(config)
    const hiddenSize = fields.size('hidden_size', 3072)
    const layers = fields.size('num_hidden_layers', 30, 1024)
    const heads = fields.size('num_attention_heads', 24)
    const headDim = hiddenSize / heads
    const maxPositions = fields.size('max_position_embeddings', 4096)
    return {
      modelType: 'starcoder2',
      vocabSize: fields.size('vocab_size', 49152),
      hiddenSize,
      layers,
      heads,
      kvHeads: fields.size('num_key_value_heads', 2),
      headDim,
      maxPositions,
      tied: fields.flag('tie_word_embeddings', true),
      ropes: new Array(layers).fill(parseRope(config, headDim, maxPositions)),
      innerSize: fields.size('intermediate_size', 12288),
      eps: fields.positive('norm_epsilon', 1e-5),
      bias: fields.flag('use_bias', true),
      window: fields.has('sliding_window') ? fields.size('sliding_window') : undefined,
    }
  },
  build({ vocabSize, hiddenSize, layers, heads, kvHeads, headDim, ropes, innerSize, eps, bias, window, tied }) {
    const g = new GraphBuilder()
    const rope = addRopes(g, ropes)[0]!
    let x = g.embedding(EMBEDDING, vocabSize, hiddenSize) // [R, C]
    g.tap('embedding', x)
    for (let layer = 0; layer < layers; layer++) {
      const path = `layers.${layer}`
      const attn = `${path}.self_attn`
      const normed = g.layerNorm(x, `${path}.input_layernorm`, eps)
      const q = g.rotate(g.linear(normed, `${attn}.q_proj`, heads * headDim, { bias }), rope, headDim)
      const k = g.rotate(g.linear(normed, `${attn}.k_proj`, kvHeads * headDim, { bias }), rope, headDim)
      const v = g.linear(normed, `${attn}.v_proj`, kvHeads * headDim, { bias })
      const seen = g.attention(q, k, v, { layer, heads, kvHeads, headDim, scale: headDim ** -0.5, window })
      x = g.add(x, g.linear(seen, `${attn}.o_proj`, hiddenSize, { bias }))
      const wide = g.linear(g.layerNorm(x, `${path}.post_attention_layernorm`, eps), `${path}.mlp.c_fc`, innerSize, {
        bias,
      })
      x = g.add(x, g.linear(g.activation(wide, 'gelu_tanh'), `${path}.mlp.c_proj`, hiddenSize, { bias }))
      g.tap(path, x)
    }
    const last = g.layerNorm(g.selectRows(x), 'norm', eps) // [R', C]
    g.tap('norm', last)
    return g.finish(g.linear(last, HEAD, vocabSize, { tied: tied ? EMBEDDING : undefined })) // [R', V]
  },
  names({ layers }) {
    const modules = ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj', 'self_attn.o_proj']
    modules.push('mlp.c_fc', 'mlp.c_proj', 'input_layernorm', 'post_attention_layernorm')
    const paths = Array.from({ length: layers }, (_, n) => modules.map((module) => `layers.${n}.${module}`)).flat()
    const of = (path: string): ParameterName => ({ path, huggingFace: `model.${path}` })
    const both = [...paths, 'norm'].flatMap((path) => [of(`${path}.weight`), of(`${path}.bias`)])
    return [of(EMBEDDING), ...both, { path: `${HEAD}.weight`, huggingFace: 'lm_head.weight' }]
  },
}
