// A model family: config.json -> graph, and the names of its parameters in each container.
import type { RowOp } from '../convert/ops.ts'
import type { JsonObject } from '../core/json.ts'
import type { Graph } from '../graph/types.ts'

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
  readonly activation: 'silu' | 'gelu' | 'gelu_tanh' | 'relu'
  /** Sliding window of each layer, undefined for full attention. */
  readonly windows: readonly (number | undefined)[]
  readonly rope: RopeConfig
}

/** rope_parameters, from any spelling. */
export interface RopeConfig {
  readonly type: 'default' | 'linear' | 'dynamic' | 'llama3' | 'yarn' | 'longrope'
  readonly theta: number
  readonly rotaryDim: number
  readonly factor: number
  readonly originalMaxPositions: number
  readonly maxPositions: number
  /** The remaining keys as they stand (low_freq_factor, beta_fast, long_factor ...). */
  readonly extra: Readonly<Record<string, unknown>>
}

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
  /** Value of `general.architecture` in GGUF files, per model type. */
  ggufArchitecture(modelType: string): string
  /** Reads config.json; throws ConfigError naming the key. */
  parseConfig(config: JsonObject): DecoderConfig
  build(config: DecoderConfig): Graph
  /** One entry a parameter, whatever is in a file. */
  names(config: DecoderConfig): readonly ParameterName[]
}
