// The config of the gated decoders: what config.json says in any spelling, every default resolved.
import type { Activation } from '../../graph/types.ts'
import type { ModelConfig, RopeConfig } from '../model-config.ts'

/**
 * Where the norms of a layer stand, x being the residual:
 * - `pre`: x += attn(norm(x)); x += mlp(norm(x))
 * - `sandwich`: x += norm(attn(norm(x))); x += norm(mlp(norm(x)))
 * - `after`: x += norm(attn(x)); x += norm(mlp(x))
 */
export type Placement = 'pre' | 'sandwich' | 'after'

export interface DecoderConfig extends ModelConfig {
  readonly intermediateSize: number
  readonly normEps: number
  /** Norms multiply by 1 + w. */
  readonly normAddsOne: boolean
  readonly placement: Placement
  /** Biases of q, k, v; of o; of the MLP. */
  readonly qkvBias: boolean
  readonly outputBias: boolean
  readonly mlpBias: boolean
  /** RMS norm of q and k before the rotation, over each head or over the whole projection. */
  readonly qkNorm: 'head' | 'full' | undefined
  /** q, k, v are one linear, gate and up another. */
  readonly fused: boolean
  readonly activation: Activation
  /** Sliding window of each layer, undefined for full attention. */
  readonly windows: readonly (number | undefined)[]
  /** The rope that the model's keys speak of: where layers differ, that of full attention, whether a layer has it or not. */
  readonly rope: RopeConfig
  /** Factors on embeddings, scores, and what each branch adds to the residual; divisor of the logits. */
  readonly embeddingScale: number
  readonly scoreScale: number
  readonly residualScale: number
  readonly logitDivisor: number
  /** tanh(x / cap) * cap of scores and logits. */
  readonly scoreSoftcap?: number
  readonly logitSoftcap?: number
}
