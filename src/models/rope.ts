// Inverse frequencies of rotary embeddings. Formulas: transformers 5.23 modeling_rope_utils (default, linear, dynamic, llama3, yarn, longrope).
import { UnsupportedError } from '../core/errors.ts'
import type { RopeSpec } from '../graph/types.ts'
import type { RopeConfig } from './types.ts'

/** theta^(-2i/dim), float32, i < dim/2. */
function baseFrequencies(theta: number, dim: number): Float32Array {
  return Float32Array.from({ length: dim / 2 }, (_, i) => 1 / Math.fround(theta ** Math.fround((2 * i) / dim)))
}

/** The graph's rope table for a config. */
export function ropeSpec(config: RopeConfig): RopeSpec {
  if (config.type !== 'default')
    throw new UnsupportedError(`Rope type "${config.type}" is not supported yet`, { ropeType: config.type })
  const inverse = baseFrequencies(config.theta, config.rotaryDim)
  return { id: 'rope', rotaryDim: config.rotaryDim, dependsOnLength: false, frequencies: () => ({ inverse, scale: 1 }) }
}
