// The models of a parity run: the embedded one, and random ones of several families whose values and widths come from the seed.
import { join } from 'node:path'
import { drawing, packages, work } from './tools.mjs'

/** `path`, the `dtype` to quantise in, `vocab`; random models keep the dtype of their file. */
export const embedded = (path) => ({
  name: 'embedded',
  path,
  dtype: 'float32',
  dtypeFlags: ['--dtype', 'float32'],
  vocab: 4096,
})

/** [name, dtype, config]: shared heads; biases and a tied head; a head of its own for each; norms of 1 + w and heads of another width. */
const FAMILIES = [
  ['llama', 'float16', { model_type: 'llama' }],
  ['qwen2', 'float32', { model_type: 'qwen2', tie_word_embeddings: true }],
  ['mistral', 'bfloat16', { model_type: 'mistral', ownHeads: true }],
  ['gemma', 'float32', { model_type: 'gemma', head_dim: 32, tie_word_embeddings: true }],
]

/** Widths that every method takes: multiples of 64, most of them no powers of two. */
function drawnConfig({ ownHeads, ...config }, draw) {
  const heads = 2 + 2 * draw(3)
  const width = config.head_dim ? 64 * (3 + draw(4)) : 64 * heads
  return {
    vocab_size: 64 * (4 + draw(6)),
    hidden_size: width,
    intermediate_size: 64 * (5 + draw(8)),
    num_hidden_layers: 1 + draw(2),
    num_attention_heads: heads,
    num_key_value_heads: ownHeads ? heads : 2,
    max_position_embeddings: 128,
    tie_word_embeddings: false,
    ...config,
  }
}

/** Makes the random models; a Python with requirements.txt. */
export function randomModels(python, seed) {
  const draw = drawing(seed)
  const variants = FAMILIES.map(([name, dtype, config], i) => ({
    config: drawnConfig(config, draw),
    dtype,
    seed: seed + i,
    out: join(work, `random-${name}`),
  }))
  packages(python, { do: 'random', variants })
  return variants.map(({ out, dtype, config }, i) => {
    const [name] = FAMILIES[i]
    return { name, path: out, dtype, dtypeFlags: [], vocab: config.vocab_size, config }
  })
}
