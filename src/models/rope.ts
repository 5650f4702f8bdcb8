// Inverse frequencies of rotary embeddings, float32 as the reference computes them. Formulas: transformers 5.23
// modeling_rope_utils.py (default, linear, dynamic, llama3, yarn, longrope), and ggml's per-frequency factors.
import type { GraphBuilder } from '../graph/builder.ts'
import type { RopeSpec } from '../graph/types.ts'
import type { RopeConfig, RopeOf } from './model-config.ts'

const { fround } = Math

/** theta^(2i/dim), float32, i < dim/2: what the inverse frequencies are the reciprocals of. */
function powers(theta: number, dim: number): Float32Array {
  return Float32Array.from({ length: dim / 2 }, (_, i) => theta ** fround((2 * i) / dim))
}

const reciprocal = (values: Float32Array): Float32Array => values.map((p) => 1 / p)

/** Adds the ropes of the layers to a graph, each once; the number of each layer's, undefined where there is none. */
export function addRopes(g: GraphBuilder, ropes: readonly (RopeConfig | undefined)[]): (number | undefined)[] {
  const numbers = new Map<RopeConfig | undefined, number | undefined>([[undefined, undefined]])
  for (const rope of ropes) if (!numbers.has(rope)) numbers.set(rope, g.rope(ropeSpec(rope!, `rope.${numbers.size}`)))
  return ropes.map((rope) => numbers.get(rope))
}

/** The graph's rope table for a config. `id` tells the ropes of a graph apart. */
export function ropeSpec(config: RopeConfig, id = `rope.${config.type}`): RopeSpec {
  const { rotaryDim } = config
  const fixed = (inverse: Float32Array, scale = 1): RopeSpec => ({
    id,
    rotaryDim,
    dependsOnLength: false,
    frequencies: () => ({ inverse, scale }),
  })
  const power = powers(config.theta, rotaryDim)
  const plain = reciprocal(power)
  switch (config.type) {
    case 'default':
      return fixed(plain)
    case 'linear':
      return fixed(plain.map((x) => x / config.factor))
    case 'factors':
      return fixed(plain.map((x, i) => x / config.factors[i]))
    case 'llama3':
      return fixed(plain.map((x) => llama3(x, config)))
    case 'yarn':
      return fixed(yarn(power, config), config.attentionFactor)
    case 'dynamic':
      return {
        id,
        rotaryDim,
        dependsOnLength: true,
        remembersUntil: config.maxPositions,
        frequencies: (length) => ({
          inverse: length > config.maxPositions ? dynamic(length, config) : plain,
          scale: 1,
        }),
      }
    case 'longrope': {
      const [short, long] = [config.shortFactor, config.longFactor].map((f) =>
        power.map((p, i) => 1 / fround(fround(f[i]) * p)),
      )
      return {
        id,
        rotaryDim,
        dependsOnLength: true,
        frequencies: (length) => ({
          inverse: length > config.originalMaxPositions ? long : short,
          scale: config.attentionFactor,
        }),
      }
    }
    default:
      return config satisfies never
  }
}

/** The base grows with the length, so that the longest wave fits it. */
function dynamic(
  length: number,
  { theta, rotaryDim, factor, maxPositions }: RopeOf<'linear' | 'dynamic'>,
): Float32Array {
  const growth = (factor * length) / maxPositions - (factor - 1)
  return reciprocal(powers(theta * growth ** (rotaryDim / (rotaryDim - 2)), rotaryDim))
}

/** Long waves are slowed by `factor`, short ones kept, those between blended. */
function llama3(inverse: number, config: RopeOf<'llama3'>): number {
  const keep = llama3Keep(inverse, config)
  return fround(fround(fround(1 - keep) * inverse) / config.factor) + fround(keep * inverse)
}

/** How much of a frequency a llama3 rope keeps: 1 for short waves, 0 for long ones. torch divides a number by a tensor as 1/x * number. */
export function llama3Keep(inverse: number, config: RopeOf<'llama3'>): number {
  const { lowFreqFactor: low, highFreqFactor: high, originalMaxPositions: original } = config
  const wave = fround(fround(1 / inverse) * fround(2 * Math.PI))
  if (wave < original / high) return 1
  if (wave > original / low) return 0
  return fround(fround(fround(fround(1 / wave) * original) - low) / (high - low))
}

/** The frequencies of a rope without scaling, float32 [dim / 2]. */
export function plainFrequencies(theta: number, dim: number): Float32Array {
  return reciprocal(powers(theta, dim))
}

/** Between the dimensions that turn betaFast and betaSlow times within the original context, a ramp from kept to slowed. */
function yarn(power: Float32Array, config: RopeOf<'yarn'>): Float32Array {
  const { rotaryDim: dim, theta, factor, originalMaxPositions: original } = config
  const edge = (turns: number) => (dim * Math.log(original / (turns * 2 * Math.PI))) / (2 * Math.log(theta))
  let low = edge(config.betaFast)
  let high = edge(config.betaSlow)
  if (config.truncate) [low, high] = [Math.floor(low), Math.ceil(high)]
  low = Math.max(low, 0)
  high = Math.min(high, dim - 1)
  if (low === high) high += 0.001
  return power.map((p, i) => {
    const keep = fround(1 - Math.min(Math.max(fround(fround(i - low) / (high - low)), 0), 1))
    return fround(fround(1 / fround(factor * p)) * fround(1 - keep)) + fround(fround(1 / p) * keep)
  })
}
