import { expect, test } from 'vitest'
import { fixtureJson } from '../../../test/support/fixtures.ts'
import { ConfigError } from '../../core/errors.ts'
import { fromPlain, type JsonObject, type PlainObject, parseJsonObject, toPlain, writeJson } from '../../core/json.ts'
import { fromFlags, type HqqSettings, parseConfig } from './config.ts'

const parse = (plain: PlainObject) => parseConfig(fromPlain(plain) as JsonObject)
const weightParams = (plain: PlainObject) => parse(plain).settings as HqqSettings

const STORED_DEFAULTS = `{
  "quant_config": {
    "offload_meta": false,
    "scale_quant_params": null,
    "weight_quant_params": {
      "axis": 1,
      "channel_wise": true,
      "group_size": 64,
      "nbits": 4,
      "optimize": true,
      "round_zero": true,
      "view_as_float": false
    },
    "zero_quant_params": null
  },
  "quant_method": "hqq",
  "skip_modules": [
    "lm_head"
  ]
}`

test('the defaults are those of HqqConfig()', () => {
  expect(writeJson(parse({}).stored)).toBe(STORED_DEFAULTS)
  expect(writeJson(parseConfig(parseJsonObject(STORED_DEFAULTS, 'x')).stored)).toBe(STORED_DEFAULTS)
})

test.each(['b8', 'b4', 'b3', 'b2', 'b1', 'b4_axis0_f16', 'b2_g32_bf16', 'dynamic_bf16'])(
  '%s: the stored config is stored again as it was',
  async (name) => {
    const { quantization_config: given } = await fixtureJson<{ quantization_config: PlainObject }>(
      `hqq/llama_${name}/config.json`,
    )
    const { stored, warnings } = parse(given)
    expect(toPlain(stored)).toEqual(given)
    expect(warnings).toEqual([])
  },
)

test('the flat form of old files stands for the nested one', () => {
  const flat = { nbits: 3, channel_wise: true, group_size: 64, optimize: true, round_zero: false, axis: 0 }
  expect(toPlain(parse({ quant_config: flat }).stored)).toEqual({
    quant_config: {
      offload_meta: false,
      scale_quant_params: null,
      weight_quant_params: { ...flat, view_as_float: false },
      zero_quant_params: null,
    },
    quant_method: 'hqq',
    skip_modules: ['lm_head'],
  })
})

test("the constructor's arguments stand for a config", () => {
  expect(weightParams({ nbits: 1.58, group_size: null, axis: 0 })).toMatchObject({
    bits: 1.58,
    packing: { name: '2bit_u8' },
    groupSize: null,
    axis: 0,
    roundZero: false,
  })
  const dynamic = parse({ dynamic_config: { 'mlp.up_proj': { nbits: 3, group_size: 32 }, 'self_attn.q_proj': {} } })
  expect([...(dynamic.settings as ReadonlyMap<string, HqqSettings>)].map(([tag, s]) => [tag, s.bits])).toEqual([
    ['mlp.up_proj', 3],
    ['self_attn.q_proj', 4],
  ])
})

test('quantised metadata and unknown keys are reported and not stored', () => {
  const config = parse({
    quant_config: { weight_quant_params: { nbits: 4, mode: 'x' }, scale_quant_params: { nbits: 8 } },
    extra: 1,
  })
  expect(config.warnings).toEqual([
    '"extra" is no key of HQQ: it is not stored',
    '"mode" is no key of HQQ: it is not stored',
    '"scale_quant_params": scales and zeros are no longer quantised, it is ignored',
  ])
  expect(writeJson(config.stored)).toBe(STORED_DEFAULTS)
})

test.each([
  [{ nbits: 7 }, '"nbits" is 7, expected 8, 6, 5, 4, 3, 2, 1.58, 1'],
  [{ nbits: '4' }, '"nbits" is "4"'],
  [{ group_size: 12 }, '"group_size" is 12, expected a multiple of 8, or null'],
  [{ group_size: 0 }, '"group_size" is 0'],
  [{ axis: 2 }, '"axis" is 2, expected 0 or 1'],
  [{ optimize: 1 }, '"optimize" is 1, expected true or false'],
  [{ channel_wise: null }, '"channel_wise" is null'],
  [{ round_zero: 'yes' }, '"round_zero" is "yes"'],
  [{ view_as_float: 0 }, '"view_as_float" is 0'],
  [{ offload_meta: 'x' }, '"offload_meta" is "x"'],
])('%j is refused by key', (params, message) => {
  expect(() => parse({ quant_config: params })).toThrow(ConfigError)
  expect(() => parse({ quant_config: params })).toThrow(message)
  expect(() => parse({ quant_config: { 'mlp.up_proj': params } })).toThrow(
    message.replace('" is', '" of "mlp.up_proj" is'),
  )
})

test.each([
  [{ quant_config: 4 }, '"quant_config" is 4, expected an object'],
  [{ quant_config: { weight_quant_params: null } }, '"weight_quant_params" is null, expected an object'],
  [{ skip_modules: 'lm_head' }, '"skip_modules" is "lm_head", expected a list of strings'],
  [{ skip_modules: null }, '"skip_modules" is null'],
])('%j is refused', (given, message) => {
  expect(() => parse(given as PlainObject)).toThrow(message)
})

test('flags stand for the config', () => {
  expect(writeJson(fromFlags({}))).toBe(STORED_DEFAULTS)
  expect(writeJson(fromFlags({ bits: 4, groupSize: 64 }))).toBe(STORED_DEFAULTS)
  const flags = { bits: 2, 'group-size': 'null', axis: '0', roundZero: true, 'skip-modules': 'lm_head,k_proj' }
  const config = parseConfig(fromFlags(flags))
  expect(config.settings).toMatchObject({ bits: 2, groupSize: null, axis: 0, roundZero: true })
  expect(config.skipModules).toEqual(['lm_head', 'k_proj'])
})

test.each([
  [{ bits: 7 }, '"nbits" is 7'],
  [{ type: 'nf4' }, 'HQQ has no types'],
  [{ axis: 'row' }, '"axis" is "row"'],
  [{ blockSize: 64 }, '"blockSize" is no option of HQQ: there are nbits, group_size'],
])('the flags %j are refused', (flags, message) => {
  expect(() => fromFlags(flags)).toThrow(message)
})
