// GGUF key-values of the gated decoders, both ways. A family lists its keys in the converter's order and adds what only it has.
import { UnsupportedError } from '../../core/errors.ts'
import { isJsonObject, JsonNumber, type JsonObject, type PlainObject, toPlain } from '../../core/json.ts'
import type { ArchitectureKeys, GgufHeader, GgufProfile } from '../gguf/profile.ts'
import { generatedFactors, withRopeFactors } from '../gguf/rope-factors.ts'
import type { DecoderConfig } from './types.ts'

type Keys = ArchitectureKeys<DecoderConfig>

/** One key each, but for `rope` and the head lengths. */
const WRITERS = {
  block_count: (k: Keys) => k.u32('block_count', k.config.layers),
  context_length: (k: Keys) => k.u32('context_length', k.config.maxPositions),
  embedding_length: (k: Keys) => k.u32('embedding_length', k.config.hiddenSize),
  feed_forward_length: (k: Keys) => k.u32('feed_forward_length', k.config.intermediateSize),
  head_count: (k: Keys) => k.u32('attention.head_count', k.config.heads),
  head_count_kv: (k: Keys) => k.u32('attention.head_count_kv', k.config.kvHeads),
  norm_epsilon: (k: Keys) => k.f32('attention.layer_norm_rms_epsilon', k.config.normEps),
  rope: writeRope,
  head_lengths: writeHeadLengths,
  stated_head_lengths: (k: Keys) => k.json.head_dim instanceof JsonNumber && writeHeadLengths(k),
  file_type: (k: Keys) => k.fileType(),
  vocab_size: (k: Keys) => k.u32('vocab_size', k.config.vocabSize),
  head_dimensions: (k: Keys) => k.u32('rope.dimension_count', k.config.headDim),
  rope_dimensions: (k: Keys) => k.u32('rope.dimension_count', k.config.rope.rotaryDim),
  rope_base: (k: Keys) => k.f32('rope.freq_base', k.config.rope.theta),
  sliding_window: (k: Keys) => k.u32('attention.sliding_window', k.config.windows.find((w) => w !== undefined) ?? 0),
} as const

export type DecoderKey = keyof typeof WRITERS

/** What the converter writes for architectures without an order of their own. */
export const USUAL_KEYS: readonly DecoderKey[] = [
  'block_count',
  'context_length',
  'embedding_length',
  'feed_forward_length',
  'head_count',
  'head_count_kv',
  'rope',
  'norm_epsilon',
  'stated_head_lengths',
  'file_type',
]
/** As usual, the head's lengths always. */
export const KEYS_WITH_HEADS: readonly DecoderKey[] = USUAL_KEYS.map((key) =>
  key === 'stated_head_lengths' ? 'head_lengths' : key,
)
/** Llama's. */
export const LLAMA_KEYS: readonly DecoderKey[] = [...KEYS_WITH_HEADS, 'vocab_size', 'head_dimensions']
/** Of those that the converter derives from Llama. */
export const LLAMA_LIKE_KEYS: readonly DecoderKey[] = [...USUAL_KEYS, 'vocab_size', 'head_dimensions']

export interface DecoderGguf {
  readonly architecture: string
  /** The rows of q and k are interleaved. */
  readonly permutesRope?: boolean
  /** Keys in the converter's order; default: USUAL_KEYS. */
  readonly keys?: readonly (DecoderKey | ((keys: Keys) => unknown))[]
  /** config.json keys that only this family's metadata has. */
  readonly read?: (header: GgufHeader, config: PlainObject) => PlainObject | Promise<PlainObject>
  /** Keys that come right after the architecture. */
  readonly first?: (keys: Keys) => unknown
  readonly losses?: (config: DecoderConfig) => readonly string[]
}

export function decoderProfile({
  architecture,
  keys = USUAL_KEYS,
  first,
  read,
  losses,
}: DecoderGguf): GgufProfile<DecoderConfig> {
  return {
    architecture,
    readConfig: async (header) => {
      const config = usualConfig(header)
      return { ...config, ...(await read?.(header, config)) }
    },
    writeFirst: first,
    refine: async (config, checkpoint) => {
      const [rope, ...ropes] = await withRopeFactors([config.rope, ...config.ropes], checkpoint)
      return { ...config, rope: rope!, ropes }
    },
    writeKeys: (out) => {
      for (const key of keys) typeof key === 'function' ? key(out) : WRITERS[key](out)
    },
    generated: ({ rope }) => generatedFactors(rope),
    losses: (config) => [
      ...ropeLosses(config),
      ...(keys.includes('sliding_window') ? [] : windowLosses(config)),
      ...(losses?.(config) ?? []),
    ],
  }
}

function ropeLosses({ rope }: DecoderConfig): string[] {
  if (rope.type !== 'dynamic') return []
  return ['GGUF cannot say a dynamic rope: beyond the trained context the file runs with plain frequencies']
}

function windowLosses({ windows, maxPositions }: DecoderConfig): string[] {
  const window = windows.find((w) => w !== undefined && w < maxPositions)
  if (window === undefined) return []
  return [`GGUF does not keep the sliding window of ${window} tokens here: on longer texts the file gives other logits`]
}

function writeHeadLengths(k: Keys): void {
  k.u32('attention.key_length', k.config.headDim)
  k.u32('attention.value_length', k.config.headDim)
}

function writeRope(k: Keys): void {
  const rope = k.config.rope
  if (rope.type === 'linear' || rope.type === 'yarn') {
    k.string('rope.scaling.type', rope.type)
    k.f32('rope.scaling.factor', rope.factor)
  }
  if (rope.type === 'yarn') {
    k.u32('rope.scaling.original_context_length', rope.originalMaxPositions)
    const stated = statedRope(k.json)
    for (const [name, stored] of YARN)
      if (typeof stated[name] === 'number') k.f32(`rope.scaling.${stored}`, stated[name] as number)
  }
  if (rope.type === 'longrope') k.string('rope.scaling.type', 'longrope')
  k.f32('rope.freq_base', rope.theta)
}

/** Written only where config.json states them. */
const YARN: readonly (readonly [string, string])[] = [
  ['extrapolation_factor', 'yarn_ext_factor'],
  ['attention_factor', 'yarn_attn_factor'],
  ['beta_fast', 'yarn_beta_fast'],
  ['beta_slow', 'yarn_beta_slow'],
]

function statedRope(configJson: JsonObject): PlainObject {
  const rope = configJson.rope_parameters ?? configJson.rope_scaling
  return isJsonObject(rope) ? (toPlain(rope) as PlainObject) : {}
}

/** Metadata keys below the architecture's name -> config.json. */
const SIZES: readonly (readonly [string, string])[] = [
  ['block_count', 'num_hidden_layers'],
  ['context_length', 'max_position_embeddings'],
  ['embedding_length', 'hidden_size'],
  ['feed_forward_length', 'intermediate_size'],
  ['attention.head_count', 'num_attention_heads'],
  ['attention.layer_norm_rms_epsilon', 'rms_norm_eps'],
]

function usualConfig(header: GgufHeader): PlainObject {
  const { checkpoint } = header
  const config: PlainObject = {}
  for (const [key, name] of SIZES) config[name] = header.need(key)
  config.num_key_value_heads = header.number('attention.head_count_kv') ?? config.num_attention_heads
  config.head_dim = headDim(header, config)
  config.rope_parameters = ropeParameters(header, config.head_dim)
  config.attention_bias = checkpoint.tensors.has('blk.0.attn_q.bias')
  config.mlp_bias = checkpoint.tensors.has('blk.0.ffn_up.bias')
  return config
}

function headDim({ keys, architecture, number }: GgufHeader, config: PlainObject): number {
  const [key, value] = ['key_length', 'value_length'].map((k) => number(`attention.${k}`))
  if (key !== undefined && value !== undefined && key !== value)
    throw new UnsupportedError(`Cannot run "${keys.file}": its keys have ${key} values a head, its values ${value}`, {
      file: keys.file,
      key: `${architecture}.attention.key_length`,
    })
  return key ?? Math.floor((config.hidden_size as number) / (config.num_attention_heads as number))
}

function ropeParameters({ keys, architecture, number: value }: GgufHeader, headSize: number): PlainObject {
  const number = (key: string) => value(`rope.${key}`)
  const rope: PlainObject = { rope_type: 'default', rope_theta: number('freq_base') ?? 10000 }
  const rotated = number('dimension_count') ?? headSize
  if (rotated !== headSize) rope.partial_rotary_factor = rotated / headSize
  // `scale_linear` is what files from before `scaling.type` have.
  const factor = number('scaling.factor') ?? number('scale_linear')
  const type = keys.string(`${architecture}.rope.scaling.type`) ?? (factor === undefined ? 'none' : 'linear')
  if (type === 'none' || factor === undefined || factor === 0) return rope
  rope.rope_type = type
  rope.factor = factor
  const original = number('scaling.original_context_length')
  if (original !== undefined) rope.original_max_position_embeddings = original
  if (type !== 'yarn') return rope
  for (const [key, name] of YARN_READ) {
    const read = number(`scaling.${key}`)
    if (read !== undefined) rope[name] = read
  }
  // llama.cpp multiplies its own temperature by attn_factor, config.json states the product.
  const scale = number('scaling.attn_factor')
  if (scale !== undefined) rope.attention_factor = scale * (factor <= 1 ? 1 : 0.1 * Math.log(factor) + 1)
  return rope
}

const YARN_READ: readonly (readonly [string, string])[] = [
  ['yarn_beta_fast', 'beta_fast'],
  ['yarn_beta_slow', 'beta_slow'],
]
