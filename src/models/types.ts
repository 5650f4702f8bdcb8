// A model family: config.json -> graph, and the names of its parameters in each container.
import type { RowOp } from '../convert/ops.ts'
import type { JsonObject } from '../core/json.ts'
import type { Activation, Graph } from '../graph/types.ts'

/** Sizes and switches that every decoder of these families has, derived from config.json. */
export interface DecoderConfig {
  readonly modelType: string
  readonly vocabSize: number
  readonly hiddenSize: number
  readonly layers: number
  readonly heads: number
  readonly kvHeads: number
  readonly headDim: number
  readonly intermediateSize: number
  readonly maxPositions: number
  readonly normEps: number
  readonly tied: boolean
  /** Biases of q, k, v; of o; of the MLP. */
  readonly qkvBias: boolean
  readonly outputBias: boolean
  readonly mlpBias: boolean
  readonly qkNorm: boolean
  readonly activation: Activation
  /** Sliding window of each layer, undefined for full attention. */
  readonly windows: readonly (number | undefined)[]
  readonly rope: RopeConfig
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

/** Names of one parameter in each container. */
export interface ParameterName {
  readonly path: string
  readonly huggingFace: string
  readonly gguf: string
  readonly ggufOp?: RowOp
}

export interface ModelFamily {
  /** Values of `model_type` in config.json. */
  readonly modelTypes: readonly string[]
  /** The transformers class that config.json names in `architectures`. */
  readonly className: string
  /** Value of `general.architecture` in GGUF files. */
  readonly ggufArchitecture: string
  /** Reads config.json; throws ConfigError naming the key. */
  parseConfig(config: JsonObject): DecoderConfig
  build(config: DecoderConfig): Graph
  /** One entry a parameter, whatever is in a file. */
  names(config: DecoderConfig): readonly ParameterName[]
}
