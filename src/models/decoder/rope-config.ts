// rope_parameters (transformers 5) or rope_scaling + rope_theta (older) -> RopeConfig. Precedence: inside the object, top level, default.
import { ConfigError, UnsupportedError } from '../../core/errors.ts'
import type { PlainObject } from '../../core/json.ts'
import type { RopeConfig } from '../model-config.ts'
import { ConfigFields } from './fields.ts'

/** Spellings of rope_type; `su` is what early Phi-3 files call longrope. */
const TYPES: Readonly<Record<string, RopeConfig['type']>> = {
  default: 'default',
  linear: 'linear',
  dynamic: 'dynamic',
  llama3: 'llama3',
  yarn: 'yarn',
  longrope: 'longrope',
  su: 'longrope',
}
/** Keys whose object gives every layer type a rope of its own: a family that has such ropes takes them apart first. */
const LAYER_TYPES = ['full_attention', 'sliding_attention']
const DEFAULT_THETA = 10000

/** The rope of a config.json whose heads have `headDim` values. Throws ConfigError naming the key. */
export function parseRope(
  config: PlainObject,
  headDim: number,
  maxPositions: number,
  defaultTheta = DEFAULT_THETA,
): RopeConfig {
  const top = new ConfigFields(config)
  const key = top.has('rope_parameters') ? 'rope_parameters' : 'rope_scaling'
  const values = top.object(key) ?? {}
  const rope = new ConfigFields(values, `${key} of config.json`)
  const perLayer = LAYER_TYPES.find((name) => name in values)
  if (perLayer)
    throw new UnsupportedError(`Cannot read config.json: "${key}" has a rope of its own for "${perLayer}" layers`, {
      key,
    })
  const name = rope.text(rope.has('rope_type') ? 'rope_type' : 'type', 'default')
  const type = TYPES[name]
  if (!type)
    throw new UnsupportedError(`Rope type "${name}" is not supported: there are ${Object.keys(TYPES).join(', ')}`, {
      key: 'rope_type',
      actual: name,
    })
  /** A number inside the object, else at the top level, else `fallback`. */
  const either = (name: string, fallback: number) =>
    rope.has(name) ? rope.positive(name) : top.positive(name, fallback)
  const rotaryDim = Math.trunc(headDim * either('partial_rotary_factor', 1))
  if (rotaryDim < 2 || rotaryDim % 2 !== 0 || rotaryDim > headDim)
    throw new ConfigError(
      `Cannot read config.json: ${rotaryDim} of ${headDim} values a head are rotated, expected an even number`,
      { key: 'head_dim', actual: rotaryDim },
    )
  const base = { theta: either('rope_theta', defaultTheta), rotaryDim, maxPositions }
  // Phi-3 keeps it at the top level, and that one wins.
  const originalMaxPositions = top.has('original_max_position_embeddings')
    ? top.size('original_max_position_embeddings')
    : rope.size('original_max_position_embeddings', maxPositions)
  switch (type) {
    case 'default':
      return { ...base, type }
    case 'linear':
    case 'dynamic':
      return { ...base, type, factor: rope.positive('factor') }
    case 'llama3':
      return llama3({ ...base, originalMaxPositions }, rope)
    case 'yarn':
      return yarn({ ...base, originalMaxPositions }, rope)
    case 'longrope':
      return longrope({ ...base, originalMaxPositions }, rope)
    default:
      throw new UnsupportedError(`Rope type "${type}" stands in no config.json`, { key: 'rope_type' })
  }
}

type Scaled = Pick<RopeConfig, 'theta' | 'rotaryDim' | 'maxPositions'> & { readonly originalMaxPositions: number }

function llama3(base: Scaled, rope: ConfigFields): RopeConfig {
  const lowFreqFactor = rope.positive('low_freq_factor')
  const highFreqFactor = rope.positive('high_freq_factor')
  if (highFreqFactor <= lowFreqFactor) rope.fail('high_freq_factor', `a number above low_freq_factor ${lowFreqFactor}`)
  return { ...base, type: 'llama3', factor: rope.positive('factor'), lowFreqFactor, highFreqFactor }
}

function yarn(base: Scaled, rope: ConfigFields): RopeConfig {
  const factor = rope.positive('factor', base.maxPositions / base.originalMaxPositions)
  const mscale = (k: number) => (factor <= 1 ? 1 : 0.1 * k * Math.log(factor) + 1)
  const both = rope.has('mscale') && rope.has('mscale_all_dim')
  const implied = both ? mscale(rope.positive('mscale')) / mscale(rope.positive('mscale_all_dim')) : mscale(1)
  return {
    ...base,
    type: 'yarn',
    factor,
    betaFast: rope.positive('beta_fast', 32),
    betaSlow: rope.positive('beta_slow', 1),
    truncate: rope.flag('truncate', true),
    attentionFactor: rope.positive('attention_factor', implied),
  }
}

function longrope(base: Scaled, rope: ConfigFields): RopeConfig {
  const factor = rope.positive('factor', base.maxPositions / base.originalMaxPositions)
  const implied = factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(base.originalMaxPositions))
  return {
    ...base,
    type: 'longrope',
    shortFactor: rope.positives('short_factor', base.rotaryDim / 2),
    longFactor: rope.positives('long_factor', base.rotaryDim / 2),
    attentionFactor: rope.positive('attention_factor', implied),
  }
}
