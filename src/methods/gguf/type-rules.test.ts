// Behaviour around the rules; the rules themselves are held by test/golden/gguf-tensor-types.test.ts.
import { expect, test } from 'vitest'
import { fromPlain, type JsonObject, type Plain } from '../../core/json.ts'
import type { ModelInfo, TensorInfo } from '../types.ts'
import { parseConfig } from './config.ts'
import { plan, quantizerOrder } from './type-rules.ts'

const MODEL: ModelInfo = {
  modelType: 'llama',
  tied: false,
  lastModule: 'lm_head',
  layers: 2,
  heads: 4,
  kvHeads: 2,
  dtype: 'F16',
  container: 'gguf',
  ggufArchitecture: 'llama',
}

const tensor = (name: string, columns: number, dtype = 'F16'): TensorInfo => ({
  name,
  shape: [4, columns],
  dtype,
  role: 'linear',
})

function planOf(tensors: readonly TensorInfo[], config: Record<string, Plain>, model: Partial<ModelInfo> = {}) {
  const parsed = parseConfig(fromPlain({ quant_method: 'gguf', ...config }) as JsonObject)
  return plan(tensors, { ...MODEL, ...model }, parsed).tensors
}

test('a row that holds no whole superblocks falls back, with a note', () => {
  const [step] = planOf([tensor('blk.0.attn_q.weight', 576)], { type: 'q4_k_m' })
  expect(step).toEqual({
    action: 'quantize',
    settings: { type: 'Q5_0', importance: undefined },
    note: 'rows of 576 are no multiple of 256: q5_0 instead of q4_k',
  })
  const [odd] = planOf([tensor('blk.0.attn_q.weight', 40)], { type: 'q4_0' })
  expect(odd).toEqual({ action: 'keep', reason: 'rows of 40 are no multiple of 32: f16 instead of q4_0' })
})

test('fallbacks of one kind are one warning', () => {
  const config = parseConfig(fromPlain({ quant_method: 'gguf', type: 'q4_k_s' }) as JsonObject)
  const tensors = ['attn_q', 'attn_k', 'attn_output'].map((name) => tensor(`blk.0.${name}.weight`, 64))
  expect(plan(tensors, MODEL, config).warnings).toEqual([
    '3 tensors: rows of 64 are no multiple of 256: q5_0 instead of q4_k',
  ])
})

test('every tensor that is left has its reason', () => {
  const vector: TensorInfo = { name: 'output_norm.weight', shape: [256], dtype: 'F32', role: 'other' }
  const tensors = [vector, tensor('output.weight', 256), tensor('blk.0.ffn_gate_inp.weight', 256)]
  const steps = planOf(tensors, { type: 'q4_0', leave_output_tensor: true })
  expect(steps).toEqual([
    { action: 'keep', reason: 'a vector is not quantised' },
    { action: 'keep', reason: 'left by leave_output_tensor' },
    { action: 'keep', reason: 'a router is not quantised' },
  ])
})

test('pure, overrides and the two named types', () => {
  const tensors = [tensor('output.weight', 256), tensor('token_embd.weight', 256), tensor('blk.0.ffn_down.weight', 256)]
  const types = (config: Record<string, Plain>) =>
    planOf(tensors, { type: 'q4_0', ...config }).map((s) => (s.action === 'quantize' ? s.settings.type : s.reason))
  expect(types({})).toEqual(['Q6_K', 'Q4_0', 'Q4_0'])
  expect(types({ pure: true })).toEqual(['Q4_0', 'Q4_0', 'Q4_0'])
  expect(types({ tensor_types: { FFN_DOWN: 'q8_0', 'ffn_.*': 'f32' } })).toEqual(['Q6_K', 'Q4_0', 'Q8_0'])
  expect(types({ output_tensor_type: 'q5_k', token_embedding_type: 'q8_0', tensor_types: { '.': 'f32' } })).toEqual([
    'Q5_K',
    'Q8_0',
    'F32',
  ])
})

test('a named type that does not fit is an error, not a fallback', () => {
  expect(() => planOf([tensor('output.weight', 80)], { type: 'q4_0', output_tensor_type: 'q6_k' })).toThrow(
    'Cannot make q6_k of "output.weight": its rows of 80 are no multiple of 256',
  )
})

test('a quantised source needs leave; the same type is copied', () => {
  const tensors = [tensor('blk.0.attn_q.weight', 256, 'Q8_0')]
  expect(() => planOf(tensors, { type: 'q4_0' })).toThrow('it is quantised already (q8_0)')
  expect(planOf(tensors, { type: 'q4_0', allow_requantize: true })[0].action).toBe('quantize')
  expect(planOf(tensors, { type: 'q8_0' })).toEqual([{ action: 'keep', reason: 'it is q8_0 already' }])
  const foreign = [tensor('blk.0.attn_q.weight', 256, 'I32')]
  expect(() => planOf(foreign, { type: 'q4_0', allow_requantize: true })).toThrow('cannot decode its type I32')
})

test("from a model folder q8_0 is the converter's: the head and the tokens too", () => {
  const tensors = [tensor('output.weight', 64), tensor('token_embd.weight', 40), tensor('blk.0.attn_q.weight', 64)]
  const steps = planOf(tensors, { type: 'q8_0' }, { container: 'safetensors' })
  expect(steps.map((s) => (s.action === 'quantize' ? s.settings.type : s.reason))).toEqual([
    'Q8_0',
    'rows of 40 are no multiple of 32: f16',
    'Q8_0',
  ])
})

test('the order of llama-quantize: what has no layer first, then by layer, then by bytes', () => {
  const names = ['blk.10.a', 'blk.2.b', 'blk.2.a', 'token_embd.weight', 'output_norm.weight', 'output.weight']
  expect(
    names
      .map((name) => ({ name }))
      .sort(quantizerOrder)
      .map((t) => t.name),
  ).toEqual(['output.weight', 'output_norm.weight', 'token_embd.weight', 'blk.2.a', 'blk.2.b', 'blk.10.a'])
})

const importanceFor = (names: readonly string[], columns: number) => ({
  entries: new Map(names.map((name) => [name, new Float32Array(columns).fill(1)])),
  dataset: undefined,
  chunks: 0,
  digest: '',
})

test('types of so few bits demand an importance matrix, but for the tables of tokens', () => {
  const tensors = [tensor('token_embd.weight', 256), tensor('blk.0.attn_q.weight', 256)]
  expect(() => planOf(tensors, { type: 'q2_k_s' })).toThrow(
    'Cannot make q2_k of "blk.0.attn_q.weight": so few bits need an importance matrix',
  )
  expect(() => planOf(tensors, { type: 'q8_0', token_embedding_type: 'iq2_xs' })).toThrow(
    'Cannot make iq2_xs of "token_embd.weight": so few bits need an importance matrix',
  )
  const config = parseConfig(fromPlain({ type: 'q2_k_s', imatrix: 'im.gguf' }) as JsonObject)
  const importance = importanceFor(['blk.0.attn_q.weight'], 256)
  expect(plan(tensors, MODEL, { ...config, importance }).tensors[1]).toMatchObject({ settings: { type: 'Q2_K' } })
})

test("a matrix that lacks some tensors is a warning, one that has none is another model's", () => {
  const tensors = ['blk.0.attn_q.weight', 'blk.0.attn_k.weight', 'token_embd.weight'].map((name) => tensor(name, 256))
  const config = parseConfig(fromPlain({ type: 'q4_k_m', imatrix: 'im.gguf' }) as JsonObject)
  const planned = (names: string[]) => plan(tensors, MODEL, { ...config, importance: importanceFor(names, 256) })
  expect(planned(['blk.0.attn_q.weight']).warnings).toEqual([
    '1 tensor is not in the importance matrix and quantised without: blk.0.attn_k.weight',
  ])
  expect(() => planned(['layers.0.q_proj'])).toThrow(
    'it has none of the tensors that are quantised ("blk.0.attn_q.weight" ...), its first entry is "layers.0.q_proj"',
  )
})
