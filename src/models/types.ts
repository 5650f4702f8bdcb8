// A model family: config.json -> graph, and the names of its parameters in each container.
import type { WeightOp } from '../convert/ops.ts'
import type { JsonObject } from '../core/json.ts'
import type { Graph } from '../graph/types.ts'
import type { GgufProfile } from './gguf/profile.ts'
import type { ModelConfig } from './model-config.ts'

/** Paths with a meaning in every family: the token table, and the head's module. */
export const EMBEDDING = 'embed_tokens.weight'
export const HEAD = 'lm_head'

/** Names of one parameter in each container, and what a container does to it. */
export interface ParameterName {
  readonly path: string
  readonly huggingFace: string
  readonly huggingFaceOp?: WeightOp
  /** Absent in families without GGUF files. */
  readonly gguf?: string
  readonly ggufOp?: WeightOp
}

export interface ModelFamily<C extends ModelConfig = ModelConfig> {
  /** Values of `model_type` in config.json. */
  readonly modelTypes: readonly string[]
  /** The transformers class that config.json names in `architectures`. */
  readonly className: string
  /** Reads config.json; throws ConfigError naming the key. */
  parseConfig(config: JsonObject): C
  build(config: C): Graph
  /**
   * Names of every parameter that the graph may have, in the order of the reference's modules: the last one, the head apart, decides
   * what automatic skip lists name.
   */
  names(config: C): readonly ParameterName[]
  /** How GGUF files hold the family; absent where there is no such architecture. */
  readonly gguf?: GgufProfile<C>
}
