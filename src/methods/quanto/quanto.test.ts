// What Quanto's config, plan and files say: legal values, shell patterns, the map, and files that are damaged or unusual.
import { expect, test } from 'vitest'
import { type RawTensor, rawTensor } from '../../core/dtypes.ts'
import { ConfigError, FileError } from '../../core/errors.ts'
import { fromPlain, type JsonObject, type PlainObject } from '../../core/json.ts'
import { blockMethod } from '../calibration.ts'
import type { ModelInfo, StoredReader, TensorInfo } from '../types.ts'
import { fromFlags, markerConfig, parseConfig, type Quanto } from './config.ts'
import { quanto } from './index.ts'
import { plan, shellPattern, untiesHead } from './plan.ts'
import { groupSizeOf, QTYPES } from './qtypes.ts'
import { quantize } from './quantize.ts'
import { stored } from './stored.ts'

const parse = (plain: PlainObject) => parseConfig(fromPlain(plain) as JsonObject)

test.each([
  ['int8', 'qint8'],
  ['qint4', 'qint4'],
  ['float8', 'qfloat8_e4m3fn'],
  ['float8_e5m2', 'qfloat8_e5m2'],
])('%s stands for %s', (name, expected) => {
  expect(parse({ weights: name }).settings.qtype.name).toBe(expected)
})

test.each([
  [{ weights: 'int3' }, '"weights" is "int3", expected int2, int4'],
  [{ weights: null }, '"weights" is null'],
  [{ activations: 'int4' }, '"activations" is "int4", expected null, int8'],
  [{ modules_to_not_convert: 'lm_head' }, 'expected null or a list of strings'],
  [{ modules_to_not_convert: ['('] }, 'is not a regular expression'],
  [{ optimizer: 'adam' }, '"optimizer" is "adam"'],
  [{ weights: 'int8', optimizer: 'hqq' }, '"absmax" for qint8: HQQ moves the shift'],
  [{ weights: 'int4', optimizer: 'absmax' }, '"max" or "hqq" for qint4'],
  [{ include: 4 }, '"include" is 4'],
  [{ modules_to_not_convert: [], exclude: 'x' }, 'exclude each other'],
  [{ activations: 'int8', momentum: 1 }, '"momentum" is 1, expected a number from 0 to below 1'],
  [{ momentum: 0.5 }, '"momentum" is 0.5, expected none: no "activations" are calibrated'],
  [{ tinygemm: 1 }, '"tinygemm" is 1'],
  [{ modules: { a: 4 } }, '"a" is 4, expected an object'],
  [{ modules: { a: { weights: 'qint3', activations: 'none' } } }, 'quanto_qmap.json: "weights" of "a" is "qint3"'],
  [{ modules: { a: { weights: 'qint4', activations: 'qint4' } } }, '"activations" of "a" is "qint4"'],
])('%j is refused', (given, message) => {
  expect(() => parse(given as PlainObject)).toThrow(ConfigError)
  expect(() => parse(given as PlainObject)).toThrow(message)
})

test.each([
  [{ bits: 3 }, 'bits is 3: Quanto has 2, 4 and 8'],
  [{ bits: 4, type: 'int8' }, 'type "int8" has 8 bits, bits is 4'],
  [{ groupSize: 64 }, "groupSize is 64: Quanto's follows from the shape"],
  [{ axis: 1 }, '"axis" is no option of Quanto'],
])('the flags %j are refused', (flags, message) => {
  expect(() => fromFlags(flags)).toThrow(message)
})

test('flags stand for the config', () => {
  expect(fromFlags({ bits: 4, optimizer: 'hqq', exclude: 'lm_head,*.down_proj' })).toEqual({
    quant_method: 'quanto',
    weights: 'int4',
    optimizer: 'hqq',
    exclude: ['lm_head', '*.down_proj'],
  })
})

test.each([
  [64, 64],
  [128, 128],
  [129, 129],
  [136, 136],
  [160, 32],
  [224, 32],
  [256, 128],
  [288, 96],
  [320, 64],
  [576, 96],
])('rows of %i have groups of %i', (columns, expected) => {
  expect(groupSizeOf(QTYPES.get('qint4')!, columns)).toBe(expected)
  expect(groupSizeOf(QTYPES.get('qint8')!, columns)).toBe(columns)
})

test.each([
  ['*.down_proj', 'model.layers.0.mlp.down_proj', true],
  ['down_proj', 'model.layers.0.mlp.down_proj', false],
  ['model.layers.[0-2].*', 'model.layers.2.mlp', true],
  ['model.layers.[!0].*', 'model.layers.0.mlp', false],
  ['lm?head', 'lm_head', true],
  ['lm.head', 'lm_head', false],
])('%s on %s: %s', (pattern, name, expected) => {
  expect(shellPattern(pattern).test(name)).toBe(expected)
})

const model: ModelInfo = {
  modelType: 'llama',
  tied: false,
  lastModule: 'lm_head',
  layers: 1,
  heads: 2,
  kvHeads: 2,
  dtype: 'F32',
  parameters: ['b.weight', 'a.weight', 'lm_head.weight'],
}
const TENSORS: readonly TensorInfo[] = [
  { name: 'a.weight', shape: [4, 8], dtype: 'F32', role: 'linear' },
  { name: 'b.weight', shape: [4, 8], dtype: 'F32', role: 'linear' },
  { name: 'lm_head.weight', shape: [4, 8], dtype: 'F32', role: 'head' },
]
const planned = (config: PlainObject) => plan(TENSORS, model, parse(config))
const actions = (config: PlainObject) => planned(config).tensors.map((t) => t.action)

test('the head stays float by itself, but not where patterns or a list do not name it', () => {
  expect(actions({})).toEqual(['quantize', 'quantize', 'keep'])
  expect(actions({ modules_to_not_convert: [] })).toEqual(['quantize', 'quantize', 'quantize'])
  expect(actions({ exclude: 'a' })).toEqual(['keep', 'quantize', 'quantize'])
  expect(actions({ include: ['a'] })).toEqual(['quantize', 'keep', 'keep'])
  expect(planned({ exclude: ['x*'] }).warnings).toEqual([
    expect.stringContaining('"x*" matches no module'),
    'lm_head is quantised: no pattern excludes it',
  ])
  const configs: PlainObject[] = [{}, { exclude: 'lm_head' }, { exclude: [] }, { modules_to_not_convert: [] }]
  expect(configs.map((config) => untiesHead(parse(config), 'lm_head'))).toEqual([false, false, true, true])
})

test("the map has the model's order, indent 4 and no final newline", () => {
  expect(planned({ weights: 'int4', exclude: 'lm_head' }).files?.get('quanto_qmap.json')).toBe(
    '{\n    "b": {\n        "weights": "qint4",\n        "activations": "none"\n    },\n    "a": {\n        "weights": "qint4",\n        "activations": "none"\n    }\n}',
  )
})

test('activations are calibrated in the decoder blocks; the input of a head stays float, with a warning', () => {
  const { tensors, files, warnings } = planned({ activations: 'float8', exclude: [] })
  const types = tensors.map((t) => (t.action === 'quantize' ? t.settings.activations?.name : 'kept'))
  expect(types).toEqual(['qfloat8_e4m3fn', 'qfloat8_e4m3fn', undefined])
  const map = JSON.parse(files!.get('quanto_qmap.json')!)
  expect(Object.entries(map).map(([name, entry]) => [name, (entry as { activations: string }).activations])).toEqual([
    ['b', 'qfloat8_e4m3fn'],
    ['a', 'qfloat8_e4m3fn'],
    ['lm_head', 'none'],
  ])
  expect(warnings).toEqual([
    'lm_head is quantised: no pattern excludes it',
    'lm_head: the input stays float, calibration goes through the decoder blocks',
    expect.stringContaining('optimum-quanto quantises outputs too'),
  ])
})

test('only a config with activations needs data, and only that has a momentum', () => {
  expect(blockMethod(quanto, parse({}))).toBeUndefined()
  expect(blockMethod(quanto, parse({ activations: 'int8' }))).toBe(quanto.block)
  expect(parse({ activations: 'int8', momentum: 0.5 }).momentum).toBe(0.5)
  expect(fromFlags({ activations: 'int8', momentum: '0.25' })).toMatchObject({ activations: 'int8' })
})

test('float64 is refused', () => {
  const tensors = TENSORS.map((t) => ({ ...t, dtype: 'F64' }))
  expect(() => plan(tensors, model, parse({}))).toThrow('"a.weight" with Quanto: it is F64')
})

/** A weight [2, 256] of this type as stored tensors that a test can damage. */
async function reader(qtype: string, edit: (tensors: Map<string, RawTensor>) => void = () => {}, activations = 'none') {
  const values = Float32Array.from({ length: 512 }, (_, i) => Math.sin(i * i))
  const settings = { ...parse({ weights: qtype }).settings }
  const weight = await quantize({ name: 'a.weight', tensor: rawTensor('F32', [2, 256], values), settings })
  const tensors = new Map((await stored.write('a.weight', weight, settings)).map((t) => [t.name, t.tensor]))
  edit(tensors)
  const said: string[] = []
  const read: StoredReader<Quanto> = {
    config: parseConfig(markerConfig(fromPlain({ a: { weights: qtype, activations } }) as JsonObject)),
    has: (name) => tensors.has(name),
    dtypeOf: (name) => tensors.get(name)?.dtype,
    shapeOf: (name) => tensors.get(name)?.shape,
    read: async (name) => tensors.get(name)!,
    warn: (message) => said.push(message),
  }
  return { read, said }
}
const set = (name: string, values: Float32Array, shape: readonly number[]) => (t: Map<string, RawTensor>) =>
  void t.set(name, rawTensor('F32', shape, values))
const edited = (name: string, change: Partial<RawTensor>) => (t: Map<string, RawTensor>) =>
  void t.set(name, { ...t.get(name)!, ...change })

test.each<[string, string, (t: Map<string, RawTensor>) => void, string]>([
  ['a missing scale', 'qint8', (t) => t.delete('a.weight._scale'), '"a.weight._scale": it is missing'],
  ['a missing shift', 'qint4', (t) => t.delete('a.weight._shift'), '"a.weight._shift": it is missing'],
  ['no data at all', 'qint4', (t) => t.delete('a.weight._data._data'), 'has neither "a.weight._data" nor "a.weight"'],
  ['a NaN scale', 'qint8', set('a.weight._scale', Float32Array.of(1, Number.NaN), [2, 1]), 'element 1 is NaN'],
  [
    'an infinite shift',
    'qint2',
    set('a.weight._shift', Float32Array.of(1, 1, 1, Infinity), [4, 1]),
    'element 3 is Infinity',
  ],
  [
    'scales of another group size',
    'qint4',
    set('a.weight._scale', new Float32Array(8), [8, 1]),
    'it is F32 [8,1], expected',
  ],
  [
    'a scale without its dimension',
    'qint8',
    set('a.weight._scale', new Float32Array(2), [2]),
    'it is F32 [2], expected',
  ],
  [
    'data of another shape',
    'qint8',
    edited('a.weight._data', { shape: [256, 2] }),
    'it is I8 [256,2], expected I8 [2,256]',
  ],
  ['data of another type', 'qfloat8_e4m3fn', edited('a.weight._data', { dtype: 'F8_E5M2' }), 'it is F8_E5M2'],
  ['words of another packing', 'qint4', edited('a.weight._data._data', { shape: [4, 128] }), 'expected U8 [2,128]'],
  [
    'NaN in a row that is not zero',
    'qfloat8_e4m3fn',
    (t) => edited('a.weight._data', { data: t.get('a.weight._data')!.data.map((c, i) => (i === 300 ? 0x7f : c)) })(t),
    '"a.weight._data": row 1, column 44 is NaN or infinite',
  ],
  ['a scale of an input that is no scalar', 'qint8', set('a.input_scale', Float32Array.of(1, 2), [2]), 'expected F32'],
])('%s is refused by name (%s)', async (_, qtype, edit, message) => {
  const { read } = await reader(qtype, edit)
  await expect(stored.read('a.weight', [2, 256], read)).rejects.toThrow(FileError)
  await expect(stored.read('a.weight', [2, 256], read)).rejects.toThrow(message)
})

test('a row of NaN whose scale is 0 is read as zeros, with a warning', async () => {
  const { read, said } = await reader('qfloat8_e5m2', (t) => {
    set('a.weight._scale', Float32Array.of(0, 1), [2, 1])(t)
    edited('a.weight._data', { data: t.get('a.weight._data')!.data.map((c, i) => (i < 256 ? 0x7f : c)) })(t)
  })
  const { parts } = await stored.read('a.weight', [2, 256], read)
  expect(parts.codes.data.subarray(0, 256).every((c) => c === 0)).toBe(true)
  expect(said).toEqual([expect.stringContaining('1 rows with the scale 0 hold NaN')])
})

test('a module that was saved before it was frozen is quantised when it is read', async () => {
  const { read, said } = await reader('qint8', (t) => {
    t.clear()
    t.set('a.weight', rawTensor('F32', [2, 2], Float32Array.of(1, -1, 2, 0.5)))
  })
  expect(stored.isStored('a.weight', read)).toBe(true)
  expect([...(await stored.read('a.weight', [2, 2], read)).parts.codes.data]).toEqual([255, 1, 255, 160])
  expect(said).toEqual([expect.stringContaining('saved before its module was frozen')])
})

test('an integer shift is a zero point, and written again as it was', async () => {
  const { read } = await reader(
    'qint4',
    (t) => void t.set('a.weight._shift', rawTensor('U8', [4, 1], Uint8Array.of(0, 7, 8, 15))),
  )
  const weight = await stored.read('a.weight', [2, 256], read)
  expect(weight.scheme).toMatchObject({ zero: 'zeroPoint' })
  const settings = await stored.readSettings!('a.weight', read)
  const again = (await stored.write('a.weight', weight, settings)).find((t) => t.name === 'a.weight._shift')!
  expect([again.tensor.dtype, ...again.tensor.data]).toEqual(['U8', 0, 7, 8, 15])
})

test('activations: the scale must be there and above 0; one that was never calibrated is told', async () => {
  const run = async (edit: (t: Map<string, RawTensor>) => void) => {
    const { read, said } = await reader('qint8', edit, 'qint8')
    return { weight: await stored.read('a.weight', [2, 256], read), said }
  }
  const { weight, said } = await run(() => {})
  expect(weight.scheme).toMatchObject({ input: { type: 'int8' } })
  expect(said).toEqual([expect.stringContaining('never calibrated')])
  await expect(run((t) => t.delete('a.input_scale'))).rejects.toThrow('"a.input_scale": it is missing')
  await expect(run(set('a.input_scale', Float32Array.of(0), []))).rejects.toThrow('it is 0, expected a number above 0')
})
