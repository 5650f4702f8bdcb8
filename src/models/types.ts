// A model family: config.json -> graph, and the names of its parameters in each container.
import type { WeightOp } from '../convert/ops.ts'
import type { JsonObject } from '../core/json.ts'
import type { Graph } from '../graph/types.ts'
import type { GgufProfile } from './gguf/profile.ts'

/** Paths with a meaning in every family: the token table, and the head's module. */
export const EMBEDDING = 'embed_tokens.weight'
export const HEAD = 'lm_head'

/** What anybody may ask of a model, whatever its family. A family's own config extends it. */
export interface ModelConfig {
  readonly modelType: string
  readonly vocabSize: number
  readonly hiddenSize: number
  readonly layers: number
  readonly heads: number
  readonly kvHeads: number
  readonly headDim: number
  readonly maxPositions: number
  /** Whether the head is the token table. */
  readonly tied: boolean
  /** Rope of each layer, undefined where q and k are not rotated. */
  readonly ropes: readonly (RopeConfig | undefined)[]
}

interface RopeBase {
  readonly theta: number
  /** Values of each head that are rotated; even. */
  readonly rotaryDim: number
  /** max_position_embeddings. */
  readonly maxPositions: number
}

/** rope_parameters from any spelling, every default resolved. Formulas: rope.ts. */
export type RopeConfig =
  | (RopeBase & { readonly type: 'default' })
  | (RopeBase & { readonly type: 'linear' | 'dynamic'; readonly factor: number })
  | (RopeBase & {
      readonly type: 'llama3'
      readonly factor: number
      readonly lowFreqFactor: number
      readonly highFreqFactor: number
      readonly originalMaxPositions: number
    })
  | (RopeBase & {
      readonly type: 'yarn'
      readonly factor: number
      readonly originalMaxPositions: number
      readonly betaFast: number
      readonly betaSlow: number
      readonly truncate: boolean
      /** Factor on cos and sin. */
      readonly attentionFactor: number
    })
  | (RopeBase & {
      readonly type: 'longrope'
      readonly originalMaxPositions: number
      /** [rotaryDim / 2] each. */
      readonly shortFactor: readonly number[]
      readonly longFactor: readonly number[]
      readonly attentionFactor: number
    })
  /** GGUF's `rope_freqs.weight` [rotaryDim / 2]: each frequency is divided by its factor. */
  | (RopeBase & { readonly type: 'factors'; readonly factors: readonly number[] })

/** Ropes of one type. */
export type RopeOf<T extends RopeConfig['type']> = Extract<RopeConfig, { type: T }>

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
