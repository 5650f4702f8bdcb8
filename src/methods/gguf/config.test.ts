import { expect, test } from 'vitest'
import { ConfigError } from '../../core/errors.ts'
import { fromPlain, type JsonObject, type Plain } from '../../core/json.ts'
import { fromFlags, parseConfig } from './config.ts'

const parse = (config: Record<string, Plain>) =>
  parseConfig(fromPlain({ quant_method: 'gguf', ...config }) as JsonObject)

test('a type is read in any case, and q4_k means q4_k_m', () => {
  expect(parse({ type: 'Q4_K_S' }).type).toBe('q4_k_s')
  expect(parse({ type: 'q4_k' }).type).toBe('q4_k_m')
  expect(parse({ type: 'Q5_K' }).type).toBe('q5_k_m')
  expect(parse({}).type).toBe('q4_k_m')
})

test('an unknown type names the legal ones', () => {
  expect(() => parse({ type: 'q4_2' })).toThrow(
    'Unknown GGUF type "q4_2": fewbit writes f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q2_k, q2_k_s, q3_k_s',
  )
  expect(() => fromFlags({ type: 'constructor' })).toThrow(ConfigError)
})

test('overrides are objects or lists of REGEX=type, in order', () => {
  const object = parse({ tensor_types: { ffn_down: 'q6_k', 'blk\\.1\\.attn_v': 'F16' } })
  const list = parse({ tensor_types: ['ffn_down=q6_k', 'blk\\.1\\.attn_v=f16'] })
  expect(object.tensorTypes).toEqual(list.tensorTypes)
  expect(list.tensorTypes.map(({ type }) => type)).toEqual(['Q6_K', 'F16'])
})

test.each([
  [{ tensor_types: { '(': 'q6_k' } }, 'bad regular expression "("'],
  [{ tensor_types: { ffn: 'q9_k' } }, '"tensor_types" is "q9_k", expected one of f32, f16'],
  [{ tensor_types: ['ffn'] }, 'expected "REGEX=type"'],
  [{ output_tensor_type: 'q9' }, '"output_tensor_type" is "q9"'],
  [{ type: null }, 'Unknown GGUF type null'],
  [{ pure: 'yes' }, '"pure" is "yes", expected true or false'],
  [{ imatrix: 5 }, '"imatrix" is 5, expected null or the path of a file'],
  [{ group_size: 32 }, 'there is no key "group_size"'],
] as [Record<string, Plain>, string][])('%j is refused by key', (config, message) => {
  expect(() => parse(config)).toThrow(ConfigError)
  expect(() => parse(config)).toThrow(message)
})

test('flags stand for a config', () => {
  expect(fromFlags({ bits: 8 })).toEqual({ quant_method: 'gguf', type: 'q8_0' })
  expect(fromFlags({ type: 'Q5_K', imatrix: 'im.dat', leaveOutputTensor: true })).toEqual({
    quant_method: 'gguf',
    type: 'q5_k_m',
    imatrix: 'im.dat',
    leave_output_tensor: true,
  })
})

test("llama-quantize's own flag for types by name is taken, once or several times", () => {
  const rules = (tensorType: string | string[]) => parseConfig(fromFlags({ type: 'q4_0', tensorType })).tensorTypes
  expect(rules('ffn_down=q6_k').map(({ type }) => type)).toEqual(['Q6_K'])
  expect(rules(['ffn_down=q6_k', 'attn_v=f16']).map(({ type }) => type)).toEqual(['Q6_K', 'F16'])
})

test('flags that mean nothing to GGUF are refused', () => {
  expect(() => fromFlags({ bits: 7 })).toThrow('GGUF has no type of 7 bits here: there are 2, 3, 4, 5, 6, 8, 16, 32')
  expect(() => fromFlags({ groupSize: 64 })).toThrow('the type fixes it')
  expect(() => fromFlags({ skipModules: 'x' })).toThrow('"skipModules" is no option of GGUF')
})
