// What is known of a model whatever its family, every default resolved.

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
