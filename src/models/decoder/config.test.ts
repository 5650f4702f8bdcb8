import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { FIXTURES } from '../../../test/support/tensors.ts'
import { ConfigError, UnsupportedError } from '../../core/errors.ts'
import { fromPlain, type JsonObject, type PlainObject } from '../../core/json.ts'
import { familyOf, MODEL_FAMILIES } from '../auto.ts'
import type { RopeConfig } from '../model-config.ts'
import type { DecoderConfig } from './types.ts'

/** The families of this decoder. */
const known = MODEL_FAMILIES.flatMap((f) => f.modelTypes).filter((type) => type !== 'gpt2' && type !== 'opt')

function parse(config: PlainObject): DecoderConfig {
  const json = fromPlain(config) as JsonObject
  return familyOf(json).parseConfig(json) as DecoderConfig
}

function ropeOf({ type, theta, rotaryDim, maxPositions }: RopeConfig) {
  return { rope_type: type, rope_theta: theta, rotary_dim: rotaryDim, max_position_embeddings: maxPositions }
}

/** What the fixture's table says of a model, from our config. */
function archOf(config: DecoderConfig) {
  return {
    family: config.modelType,
    hidden: config.hiddenSize,
    layers: config.layers,
    heads: config.heads,
    kv_heads: config.kvHeads,
    head_dim: config.headDim,
    ffn: config.intermediateSize,
    vocab: config.vocabSize,
    norm: config.normAddsOne ? 'rms_plus_one' : 'rms',
    eps: config.normEps,
    placement: config.placement,
    qk_norm: config.qkNorm ?? null,
    act: config.activation,
    window: config.windows.map((w) => w ?? null),
    attn_scale: new Array<number>(config.layers).fill(Math.fround(config.scoreScale)),
    attn_softcap: config.scoreSoftcap ?? null,
    logit_softcap: config.logitSoftcap ?? null,
    embed_scale: config.embeddingScale,
    residual_scale: config.residualScale,
    logit_divisor: config.logitDivisor,
    tied: config.tied,
    rope: config.ropes.map((rope) => (rope ? ropeOf(rope) : null)),
  }
}

type Arch = ReturnType<typeof archOf>
const published: Record<string, { config: PlainObject; arch: PlainObject & { family: string } }> = JSON.parse(
  readFileSync(join(FIXTURES, 'transformers/configs.json'), 'utf8'),
).cases
const models: Record<string, { family: string }> = JSON.parse(
  readFileSync(join(FIXTURES, 'transformers/models/index.json'), 'utf8'),
)

const ACTIVATIONS: Record<string, string> = { gelu_pytorch_tanh: 'gelu_tanh', gelu_new: 'gelu_tanh' }
const ROPE_KEYS = ['rope_type', 'rope_theta', 'rotary_dim', 'max_position_embeddings']

/** The fixture's `arch` reduced to the same keys. */
function reduced(arch: PlainObject): Partial<Arch> {
  const keys = Object.keys(archOf(parse({ model_type: 'llama' })))
  return {
    ...Object.fromEntries(keys.map((k) => [k, arch[k]])),
    act: ACTIVATIONS[arch.act as string] ?? arch.act,
    attn_scale: (arch.attn_scale as number[]).map(Math.fround),
    embed_scale: Math.fround(arch.embed_scale as number),
    rope: (arch.rope as (PlainObject | null)[]).map(
      (rope) => rope && Object.fromEntries(ROPE_KEYS.map((k) => [k, rope[k]])),
    ),
  } as Partial<Arch>
}

/** The reference itself fails on some. */
const ours = Object.keys(published).filter(
  (name) => published[name].arch && known.includes(String(published[name].config.model_type)),
)

test.each(ours)('published spelling %s', (name) => {
  expect(archOf(parse(published[name].config))).toEqual(reduced(published[name].arch))
})

test.each(Object.keys(models).filter((name) => known.includes(models[name].family)))('saved config of %s', (name) => {
  const folder = join(FIXTURES, 'transformers/models', name)
  const config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'))
  const { arch } = JSON.parse(readFileSync(join(folder, 'expected.json'), 'utf8'))
  expect(archOf(parse(config))).toEqual(reduced(arch))
})

test('rope values inside rope_parameters win over the top level, and that over the default', () => {
  const theta = (config: PlainObject) => parse({ model_type: 'llama', ...config }).ropes[0]?.theta
  expect(theta({ rope_parameters: { rope_theta: 5 }, rope_theta: 7 })).toBe(5)
  expect(theta({ rope_parameters: { rope_type: 'default' }, rope_theta: 7 })).toBe(7)
  expect(theta({ rope_scaling: null })).toBe(10000)
})

test('the early name "su" of longrope is read, with the original context at the top level', () => {
  const factors = new Array(64).fill(2)
  const { ropes } = parse({
    model_type: 'phi3',
    head_dim: 128,
    max_position_embeddings: 131072,
    original_max_position_embeddings: 4096,
    rope_scaling: { type: 'su', short_factor: factors, long_factor: factors },
  })
  expect(ropes[0]).toMatchObject({ type: 'longrope', originalMaxPositions: 4096 })
})

describe('what a config.json may not say', () => {
  const wrong: readonly (readonly [string, PlainObject, string])[] = [
    ['a billion layers', { num_hidden_layers: 1e9 }, 'num_hidden_layers'],
    ['a string for a number', { hidden_size: '512' }, 'hidden_size'],
    ['a fraction', { num_attention_heads: 2.5 }, 'num_attention_heads'],
    ['a negative vocabulary', { vocab_size: -1 }, 'vocab_size'],
    ['heads that do not share key/value heads evenly', { num_key_value_heads: 5 }, 'num_key_value_heads'],
    ['heads that do not divide the width', { hidden_size: 100, num_attention_heads: 3 }, 'num_attention_heads'],
    ['an odd head', { head_dim: 7 }, 'head_dim'],
    ['a string for a flag', { tie_word_embeddings: 'false' }, 'tie_word_embeddings'],
    ['an eps of zero', { rms_norm_eps: 0 }, 'rms_norm_eps'],
    ['rope_parameters that are a list', { rope_parameters: [] }, 'rope_parameters'],
    ['a linear rope without a factor', { rope_scaling: { type: 'linear' } }, 'factor'],
    [
      'llama3 factors in the wrong order',
      { rope_scaling: { rope_type: 'llama3', factor: 8, low_freq_factor: 4, high_freq_factor: 1 } },
      'high_freq_factor',
    ],
    [
      'longrope factors of the wrong number',
      { rope_scaling: { rope_type: 'longrope', short_factor: [1], long_factor: [1] } },
      'short_factor',
    ],
  ]
  test.each(wrong)('%s', (_, config, key) => {
    const attempt = () => parse({ model_type: 'llama', ...config })
    expect(attempt).toThrow(ConfigError)
    expect(attempt).toThrow(expect.objectContaining({ fields: expect.objectContaining({ key }) }))
  })

  test('layer types of another number than the layers', () => {
    expect(() => parse({ model_type: 'qwen2', layer_types: ['full_attention'] })).toThrow(
      /"layer_types" is \["full_attention"\], expected a list of 32 strings/,
    )
  })

  test.each<readonly [string, PlainObject]>([
    ['an unknown family', { model_type: 'mamba' }],
    ['no family', {}],
    ['an unknown rope', { model_type: 'llama', rope_scaling: { type: 'mrope' } }],
    ['a rope for each layer type', { model_type: 'llama', rope_parameters: { full_attention: {} } }],
    ['an unknown activation', { model_type: 'llama', hidden_act: 'xielu' }],
    ['an unknown layer type', { model_type: 'qwen3', num_hidden_layers: 1, layer_types: ['linear_attention'] }],
  ])('%s is unsupported', (_, config) => {
    expect(() => parse(config)).toThrow(UnsupportedError)
  })
})
