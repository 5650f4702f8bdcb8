// What GPT-2 and OPT share: learned positions, LayerNorms with biases, attention without rotation, and an MLP of two linears.
import type { GraphBuilder, Value } from '../../graph/builder.ts'
import type { Activation } from '../../graph/types.ts'
import type { ArchitectureKeys } from '../gguf/profile.ts'
import type { ModelConfig } from '../model-config.ts'

export interface LearnedConfig extends ModelConfig {
  readonly intermediateSize: number
  readonly normEps: number
  readonly activation: Activation
  /** Factor on the scores of each layer. */
  readonly scoreScales: readonly number[]
  /** Biases of the linears. */
  readonly bias: boolean
}

/** Causal attention of every head; all heads have keys of their own. */
export function attend(g: GraphBuilder, q: Value, k: Value, v: Value, layer: number, config: LearnedConfig): Value {
  const { heads, kvHeads, headDim } = config
  return g.attention(q, k, v, { layer, heads, kvHeads, headDim, scale: config.scoreScales[layer] })
}

/** activation(x W1 + b1) W2 + b2; `up` and `down` are the modules' paths. */
export function plainMlp(g: GraphBuilder, x: Value, up: string, down: string, config: LearnedConfig): Value {
  const { bias } = config
  const inner = g.activation(g.linear(x, up, config.intermediateSize, { bias }), config.activation)
  return g.linear(inner, down, config.hiddenSize, { bias })
}

/** The sizes among the key-values of a GGUF file, in the converter's order. */
export function writeSizes(keys: ArchitectureKeys<LearnedConfig>): void {
  const { config } = keys
  keys.u32('block_count', config.layers)
  keys.u32('context_length', config.maxPositions)
  keys.u32('embedding_length', config.hiddenSize)
  keys.u32('feed_forward_length', config.intermediateSize)
  keys.u32('attention.head_count', config.heads)
  keys.f32('attention.layer_norm_epsilon', config.normEps)
}
