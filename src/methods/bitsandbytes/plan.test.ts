import { expect, test } from 'vitest'
import { ConfigError, WeightError } from '../../core/errors.ts'
import { fromPlain, type JsonObject, type PlainObject } from '../../core/json.ts'
import type { ModelInfo, TensorInfo } from '../types.ts'
import { parseConfig } from './config.ts'
import { plan } from './plan.ts'

const MODEL: ModelInfo = {
  modelType: 'llama',
  tied: false,
  lastModule: 'lm_head',
  layers: 1,
  heads: 1,
  kvHeads: 1,
  dtype: 'F32',
}
const linear = (shape: number[], dtype = 'F32', name = 'up_proj'): TensorInfo => ({
  name: `model.layers.0.mlp.${name}.weight`,
  shape,
  dtype,
  role: 'linear',
})
const HEAD: TensorInfo = { name: 'lm_head.weight', shape: [8, 8], dtype: 'F32', role: 'head' }
const NORM: TensorInfo = { name: 'model.norm.weight', shape: [8], dtype: 'F32', role: 'other' }
const config = (plain: PlainObject) => parseConfig(fromPlain({ load_in_4bit: true, ...plain }) as JsonObject)

test('linears are quantised, the head is listed with its reason, other tensors are not', () => {
  const { tensors, storedConfig } = plan([linear([8, 8]), NORM, HEAD], MODEL, config({}))
  expect(tensors.map((t) => t.action)).toEqual(['quantize', 'keep', 'keep'])
  expect(tensors[1]).toEqual({ action: 'keep', reason: undefined })
  expect(tensors[2]).toEqual({ action: 'keep', reason: 'output head' })
  expect(storedConfig?.llm_int8_skip_modules).toBeNull()
})

test('a given list decides alone, and its pattern is the reason', () => {
  const { tensors, warnings } = plan(
    [linear([8, 8]), linear([8, 8], 'F32', 'v_proj'), HEAD],
    MODEL,
    config({ llm_int8_skip_modules: ['v_proj'], frob: 1 }),
  )
  expect(tensors.map((t) => t.action)).toEqual(['quantize', 'keep', 'quantize'])
  expect(tensors[1]).toMatchObject({ reason: 'skipped by "v_proj" of llm_int8_skip_modules' })
  expect(warnings).toEqual([
    expect.stringContaining('"frob" is no key'),
    expect.stringContaining('lm_head is quantised'),
  ])
})

test('packed bytes that the storage dtype cannot carry are refused with the shape', () => {
  const storage = config({ bnb_4bit_quant_storage: 'float32' })
  expect(() => plan([linear([3, 7])], MODEL, storage)).toThrow(WeightError)
  expect(() => plan([linear([3, 7])], MODEL, storage)).toThrow(
    '[3,7] as float32: its 11 packed bytes do not divide by 4',
  )
  expect(plan([linear([3, 7])], MODEL, config({})).tensors[0].action).toBe('quantize')
})

test('dtypes that the reference does not quantise are refused by name', () => {
  expect(() => plan([linear([8, 8], 'F64')], MODEL, config({}))).toThrow(
    expect.objectContaining({ message: expect.stringContaining('up_proj.weight'), hint: '--dtype float32' }),
  )
})

test('llm_int8_has_fp16_weight is refused for LLM.int8 and ignored for 4 bits', () => {
  const given = { llm_int8_has_fp16_weight: true }
  expect(() => plan([linear([8, 8])], MODEL, config({ ...given, load_in_4bit: false, load_in_8bit: true }))).toThrow(
    ConfigError,
  )
  expect(plan([linear([8, 8])], MODEL, config(given)).tensors[0].action).toBe('quantize')
})
