import { expect, test } from 'vitest'
import { ConfigError } from '../../core/errors.ts'
import { fromPlain, type JsonObject, type PlainObject, parseJsonObject, writeJson } from '../../core/json.ts'
import { fromFlags, parseConfig } from './config.ts'

const parse = (plain: PlainObject) => parseConfig(fromPlain(plain) as JsonObject)
const STORED_NF4 = `{
  "_load_in_4bit": true,
  "_load_in_8bit": false,
  "bnb_4bit_compute_dtype": "float32",
  "bnb_4bit_quant_storage": "uint8",
  "bnb_4bit_quant_type": "nf4",
  "bnb_4bit_use_double_quant": true,
  "llm_int8_enable_fp32_cpu_offload": false,
  "llm_int8_has_fp16_weight": false,
  "llm_int8_skip_modules": null,
  "llm_int8_threshold": 6.0,
  "load_in_4bit": true,
  "load_in_8bit": false,
  "quant_method": "bitsandbytes"
}`

test('the stored config has every key, sorted, and 6.0 keeps its .0', () => {
  const config = parse({ load_in_4bit: true, bnb_4bit_quant_type: 'nf4', bnb_4bit_use_double_quant: true })
  expect(writeJson(config.stored)).toBe(STORED_NF4)
  expect(writeJson(parseConfig(parseJsonObject(STORED_NF4, 'config')).stored)).toBe(STORED_NF4)
})

test('the reference defaults hold: fp4, no double quantisation, uint8 storage', () => {
  expect(parse({ load_in_4bit: true }).settings).toEqual({
    kind: '4bit',
    quantType: 'fp4',
    blockSize: 64,
    doubleQuant: false,
    storage: 'U8',
  })
  expect(parse({ load_in_8bit: true }).settings).toEqual({ kind: 'int8', outlierThreshold: 6 })
})

test('a whole-number threshold is stored as the float it is', () => {
  const { stored, settings } = parseConfig(parseJsonObject('{"load_in_8bit": true, "llm_int8_threshold": 1}', 'x'))
  expect(settings).toEqual({ kind: 'int8', outlierThreshold: 1 })
  expect(writeJson(stored.llm_int8_threshold)).toBe('1.0')
})

test('the duplicates that the writer adds are not trusted', () => {
  expect(parse({ load_in_8bit: true, _load_in_4bit: true, _load_in_8bit: false }).settings.kind).toBe('int8')
})

test('a null dtype stands for the default, as in the reference', () => {
  const { stored } = parse({ load_in_4bit: true, bnb_4bit_compute_dtype: null, bnb_4bit_quant_storage: null })
  expect(stored.bnb_4bit_compute_dtype).toBe('float32')
  expect(stored.bnb_4bit_quant_storage).toBe('uint8')
})

test('unknown keys are reported and not stored', () => {
  const config = parse({ load_in_4bit: true, load_in_2bit: true })
  expect(config.warnings).toEqual(['"load_in_2bit" is no key of bitsandbytes: it is not stored'])
  expect(config.stored.load_in_2bit).toBeUndefined()
})

test.each([
  [{}, 'both missing or false'],
  [{ load_in_4bit: true, load_in_8bit: true }, 'both true'],
  [{ load_in_4bit: 1 }, '"load_in_4bit" is 1, expected true or false'],
  [{ load_in_4bit: true, bnb_4bit_quant_type: 'nf8' }, '"bnb_4bit_quant_type" is "nf8", expected "fp4", "nf4"'],
  [{ load_in_8bit: true, bnb_4bit_quant_type: 'nf8' }, '"bnb_4bit_quant_type" is "nf8"'],
  [{ load_in_4bit: true, bnb_4bit_compute_dtype: 'bf16' }, '"bnb_4bit_compute_dtype" is "bf16"'],
  [{ load_in_4bit: true, bnb_4bit_quant_storage: 'int16' }, '"bnb_4bit_quant_storage" is "int16"'],
  [{ load_in_4bit: true, bnb_4bit_use_double_quant: 'yes' }, '"bnb_4bit_use_double_quant" is "yes"'],
  [{ load_in_8bit: true, llm_int8_threshold: '6' }, '"llm_int8_threshold" is "6", expected a number from 0 on'],
  [{ load_in_8bit: true, llm_int8_threshold: -1 }, '"llm_int8_threshold" is -1'],
  [{ load_in_8bit: true, llm_int8_skip_modules: 'lm_head' }, '"llm_int8_skip_modules" is "lm_head"'],
  [{ load_in_8bit: true, llm_int8_skip_modules: ['a', 1] }, '"llm_int8_skip_modules" is ["a",1]'],
  [{ load_in_8bit: true, llm_int8_skip_modules: ['('] }, '"(" is not a regular expression'],
] as [PlainObject, string][])('%j is refused', (plain, message) => {
  expect(() => parse(plain)).toThrow(ConfigError)
  expect(() => parse(plain)).toThrow(message)
})

test('a short dtype name is refused with the long one as hint', () => {
  expect(() => parse({ load_in_4bit: true, bnb_4bit_compute_dtype: 'bf16' })).toThrow(
    expect.objectContaining({ hint: 'write "bfloat16"' }),
  )
})

const settingsOf = (flags: Parameters<typeof fromFlags>[0]) => parseConfig(fromFlags(flags)).settings

test('shorthands: 4 bits are nf4, 8 bits LLM.int8, and --type names either', () => {
  expect(settingsOf({ bits: 4 })).toMatchObject({ quantType: 'nf4' })
  expect(settingsOf({})).toMatchObject({ quantType: 'nf4' })
  expect(settingsOf({ bits: 8 })).toMatchObject({ kind: 'int8' })
  expect(settingsOf({ type: 'fp4' })).toMatchObject({ quantType: 'fp4' })
  expect(settingsOf({ type: 'int8', bits: 8, groupSize: 64 })).toMatchObject({ kind: 'int8' })
})

test('every other flag is a key in kebab-case or camelCase', () => {
  expect(
    settingsOf({ bits: 4, 'bnb-4bit-use-double-quant': 'true', 'bnb-4bit-quant-storage': 'bfloat16' }),
  ).toMatchObject({ quantType: 'nf4', doubleQuant: true, storage: 'BF16' })
  expect(settingsOf({ loadIn8bit: true, llmInt8Threshold: 0 })).toEqual({ kind: 'int8', outlierThreshold: 0 })
  expect(settingsOf({ bits: 8, 'llm-int8-threshold': '2.5' })).toEqual({ kind: 'int8', outlierThreshold: 2.5 })
  const { skipModules } = parseConfig(fromFlags({ bits: 4, 'llm-int8-skip-modules': 'lm_head,v_proj' }))
  expect(skipModules).toEqual(['lm_head', 'v_proj'])
})

test('the library without a type keeps the reference default', () => {
  expect(settingsOf({ loadIn4bit: true })).toMatchObject({ quantType: 'fp4' })
})

test.each([
  [{ bits: 3 }, 'bits is 3: bitsandbytes has 4 (nf4, fp4) and 8 (int8)'],
  [{ type: 'q4_0' }, 'type is "q4_0": bitsandbytes has nf4, fp4, int8'],
  [{ type: 'toString' }, 'type is "toString"'],
  [{ type: 'nf4', bits: 8 }, 'type "nf4" has 4 bits, bits is 8'],
  [{ bits: 4, groupSize: 32 }, 'groupSize is 32'],
  [{ bits: 4, 'bnb-4bit-frob': 'x' }, '"bnb-4bit-frob" is no option of bitsandbytes'],
  [{ bits: 8, 'llm-int8-threshold': 'six' }, '"llm_int8_threshold" is "six"'],
])('the flags %j are refused', (flags, message) => {
  expect(() => fromFlags(flags)).toThrow(ConfigError)
  expect(() => fromFlags(flags)).toThrow(message)
})
