import { expect, test } from 'vitest'
import { fromPlain, type JsonObject, type PlainObject } from '../../core/json.ts'
import type { ModelInfo, TensorInfo } from '../types.ts'
import { parseConfig } from './config.ts'
import { plan, tagOf } from './plan.ts'

const MODEL: ModelInfo = {
  modelType: 'llama',
  tied: false,
  lastModule: 'lm_head',
  layers: 1,
  heads: 4,
  kvHeads: 4,
  dtype: 'F32',
}
const linear = (name: string, shape = [64, 64], dtype = 'F32'): TensorInfo => ({ name, shape, dtype, role: 'linear' })
const Q = linear('model.layers.0.self_attn.q_proj.weight')
const UP = linear('model.layers.0.mlp.up_proj.weight')
const HEAD: TensorInfo = { ...linear('lm_head.weight'), role: 'head' }
const EMBEDDING: TensorInfo = { ...linear('model.embed_tokens.weight'), role: 'embedding' }

const planOf = (tensors: TensorInfo[], config: PlainObject, model = MODEL) =>
  plan(tensors, model, parseConfig(fromPlain(config) as JsonObject))
const outcome = (tensors: TensorInfo[], config: PlainObject, model = MODEL) =>
  planOf(tensors, config, model).tensors.map((t) => (t.action === 'keep' ? t.reason : t.action))

test('linears are quantised, the head and everything else stays float', () => {
  expect(outcome([EMBEDDING, Q, UP, HEAD], {})).toEqual([
    undefined,
    'quantize',
    'quantize',
    'skipped by "lm_head" of skip_modules',
  ])
  expect(planOf([EMBEDDING, Q, HEAD], {}).warnings).toEqual([])
})

test('an entry skips where it occurs anywhere in the full name', () => {
  expect(outcome([Q, UP], { skip_modules: ['attn.q'] })).toEqual(['skipped by "attn.q" of skip_modules', 'quantize'])
  expect(outcome([Q, UP], { skip_modules: ['layers.0.mlp.up_proj.weight'] })[1]).toContain('skipped by')
  expect(outcome([Q, UP], { skip_modules: [] })).toEqual(['quantize', 'quantize'])
})

test('an entry that occurs nowhere and a quantised head are warnings', () => {
  expect(planOf([Q, HEAD], { skip_modules: ['v_proj'] }).warnings).toEqual([
    'skip_modules: "v_proj" occurs in no module\'s name',
    'lm_head is quantised: skip_modules does not name it',
  ])
})

test('a tied head stays float, with a warning where the list does not name it', () => {
  const tied = { ...MODEL, tied: true }
  expect(outcome([EMBEDDING, Q], {}, tied)[0]).toBe('output head, tied to the embedding')
  expect(outcome([EMBEDDING, Q, HEAD], { skip_modules: [] }, tied)[2]).toBe('tied to the embedding')
  expect(planOf([EMBEDDING, Q], { skip_modules: [] }, tied).warnings).toEqual([
    'lm_head is tied to the embedding: both stay float although skip_modules does not name it',
  ])
})

test('a linear whose tag a dynamic config does not list stays float, with the reason', () => {
  const config = { quant_config: { 'mlp.up_proj': { nbits: 3 }, 'mlp.upproj': { nbits: 3 } } }
  expect(outcome([Q, UP], config)).toEqual(['quant_config has no entry for "self_attn.q_proj"', 'quantize'])
  expect(planOf([Q, UP], config).warnings).toEqual(['quant_config: no module has the tag "mlp.upproj"'])
})

test('a tag has no model, no layers and no numbers', () => {
  expect(tagOf('model.layers.31.mlp.experts.7.w1')).toBe('mlp.experts.w1')
})

test.each([
  [[7, 33], { nbits: 4 }, 'its 231 weights do not divide into groups of 64'],
  [[3, 64], { nbits: 4 }, 'it is regrouped as [3, 64], and 3 rows do not divide by 2 as 4bit_u8 packing needs'],
  [[12, 64], { nbits: 1 }, '12 rows do not divide by 8 as 1bit_u8'],
  [[6, 64], { nbits: 1.58 }, '6 rows do not divide by 4 as 2bit_u8'],
  [[10, 9], { nbits: 2, axis: 0, group_size: null }, 'it is regrouped as [10, 9], and 10 rows do not divide by 4'],
  [[8, 30], { nbits: 4, group_size: null, view_as_float: true }, 'its packed rows of 30 bytes do not divide into F32'],
])('%j with %j is refused by name and shape', (shape, params, message) => {
  const attempt = () => planOf([linear('model.layers.0.mlp.up_proj.weight', shape)], params)
  expect(attempt).toThrow(`Cannot quantise "model.layers.0.mlp.up_proj.weight" [${shape}] with HQQ: `)
  expect(attempt).toThrow(message)
})

test('three-bit rows are padded, not refused; float64 is refused', () => {
  expect(outcome([linear('a.up_proj.weight', [7, 64])], { nbits: 3 })).toEqual(['quantize'])
  expect(() => planOf([linear('a.weight', [64, 64], 'F64')], {})).toThrow('it is F64, expected F32, F16, BF16')
})
