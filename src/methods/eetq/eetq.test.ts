// Against the reference's arithmetic and byte orders: codes, scales, both arrangements and restored values of every vector, bit for bit.
import { expect, test } from 'vitest'
import { fixtureJson, fixtureTensors } from '../../../test/support/fixtures.ts'
import { type RawTensor, rawTensor } from '../../core/dtypes.ts'
import { ConfigError, WeightError } from '../../core/errors.ts'
import { fromFloat32, toFloat32 } from '../../core/half.ts'
import { fromPlain, type JsonObject, type PlainObject } from '../../core/json.ts'
import { PACKINGS, pack, unpack } from '../../weights/packing.ts'
import { decode } from '../../weights/weight.ts'
import type { ModelInfo, StoredReader, TensorInfo } from '../types.ts'
import { type Eetq, fromFlags, parseConfig } from './config.ts'
import { eetq } from './index.ts'
import { eetqWeight, quantize, quantizeRows } from './quantize.ts'
import { stored } from './stored.ts'

const { cases } = await fixtureJson<{ cases: Record<string, { dtype: string }> }>('eetq/vectors.json')
const vectors = await fixtureTensors('eetq/vectors.safetensors')
const get = (name: string) => vectors.get(name) ?? expect.fail(`no tensor ${name}`)

/** [rows, columns] -> [columns, rows]. */
function transposed<T extends Float32Array | Uint8Array>(values: T, rows: number, columns: number): T {
  return values.map((_, i) => values[(i % rows) * columns + Math.floor(i / rows)]) as T
}
const signed = (codes: Uint8Array) => codes.map((code) => code ^ 0x80)
const bits = (values: Float32Array) =>
  Array.from(new Uint32Array(values.slice().buffer), (word, i) => (Number.isNaN(values[i]) ? 'NaN' : word))
const hex = (data: Uint8Array) => Buffer.from(data).toString('hex')

const names = Object.keys(cases).filter((name) => vectors.has(`${name}.w`))

test('the fixture holds vectors of every kind', () => {
  expect(names.length).toBeGreaterThanOrEqual(9)
  expect(names.some((name) => name.includes('finite'))).toBe(true)
})

test.each(names)('%s: codes, scales, bytes of both orders, restored values', async (name) => {
  const w = get(`${name}.w`)
  const [k, n] = w.shape
  const { codes, step } = await quantizeRows(transposed(toFloat32(w), k, n), k)
  expect(hex(signed(codes))).toBe(hex(transposed(get(`${name}.codes`).data, k, n)))
  const scales = get(`${name}.scales`)
  const scale = fromFloat32(step, scales.dtype as 'F16')
  expect(bits(toFloat32({ ...scales, data: scale }))).toEqual(bits(toFloat32(scales)))
  for (const [key, packing] of [
    ['sm80', PACKINGS.eetqSm80],
    ['sm70', PACKINGS.eetqSm70],
  ] as const) {
    expect(hex(pack(packing, codes, n, k)), key).toBe(hex(get(`${name}.${key}`).data))
    expect(hex(unpack(packing, get(`${name}.${key}`).data, n, k)), key).toBe(hex(codes))
  }
  const restored = decode(eetqWeight([n, k], codes, fromFloat32(step, 'F16')), 0, n * k, 'F16')
  expect(bits(restored)).toEqual(bits(transposed(toFloat32(get(`${name}.dequant`)), k, n)))
})

test('the address of every element', () => {
  const table = get('address_128x64')
  const address = new Int32Array(table.data.slice().buffer)
  const [k, n] = table.shape
  for (let byte = 0; byte < 4; byte++) {
    const codes = transposed(
      Uint8Array.from(address, (at) => at >> (8 * byte)),
      k,
      n,
    )
    const packed = pack(PACKINGS.eetqSm80, codes, n, k)
    expect(packed).toEqual(Uint8Array.from({ length: n * k }, (_, at) => at >> (8 * byte)))
  }
})

const settings = parseConfig({}).settings
const weightOf = (values: readonly number[], shape = [1, values.length]): RawTensor =>
  rawTensor('F32', shape, Float32Array.from(values))

test('the example of the format: half away from zero, +amax 127, -0 and 0 alike', async () => {
  const { codes, step } = await quantizeRows(Float32Array.of(0.0999755859375, -0.199951171875, 0.35009765625, 0), 4)
  expect([...codes]).toEqual([165, 55, 255, 128])
  expect(bits(step)).toEqual([0x3b334000])
  expect([...(await quantizeRows(Float32Array.of(-0, 0, 2, -2), 4)).codes]).toEqual([128, 128, 255, 0])
})

test.each([Number.NaN, Infinity])(
  '%d is refused by row and column, or given the codes of the reference',
  async (bad) => {
    const tensor = weightOf([1, 2, 3, bad], [2, 2])
    const attempt = quantize({ name: 'a.weight', tensor, settings, firstRow: 10 })
    await expect(attempt).rejects.toThrow(WeightError)
    await expect(attempt).rejects.toThrow(`Cannot quantise "a.weight": row 11, column 1 is ${bad}`)
    const allowed = await quantize({ name: 'a.weight', tensor, settings: { ...settings, allowNonFinite: true } })
    expect(allowed.parts.codes.data[3]).toBe(255)
  },
)

test('rows whose float16 scale is 0 are told', async () => {
  const said: string[] = []
  const tensor = weightOf([1e-7, -1e-7, 1, 1, 0, 0], [3, 2])
  await quantize({ name: 'a.weight', tensor, settings, warn: (message) => said.push(message) })
  expect(said).toEqual([expect.stringContaining('1 of 3 rows')])
})

const parse = (plain: PlainObject) => parseConfig(fromPlain(plain) as JsonObject)

test.each([
  [{ weights: 'int4' }, '"weights" is "int4", expected "int8"'],
  [{ weights: null }, '"weights" is null'],
  [{ modules_to_not_convert: 'lm_head' }, '"modules_to_not_convert" is "lm_head", expected null or a list of strings'],
  [{ modules_to_not_convert: ['('] }, 'is not a regular expression'],
  [{ arrangement: 'sm90' }, '"arrangement" is "sm90", expected "sm80", "sm70"'],
  [{ allow_non_finite: 'yes' }, '"allow_non_finite" is "yes"'],
])('%j is refused', (given, message) => {
  expect(() => parse(given as PlainObject)).toThrow(ConfigError)
  expect(() => parse(given as PlainObject)).toThrow(message)
})

test.each([
  [{ bits: 4 }, 'bits is 4: EETQ has 8'],
  [{ groupSize: 64 }, 'groupSize is 64: EETQ has one scale'],
  [{ type: 'fp8' }, '"weights" is "fp8"'],
  [{ axis: 1 }, '"axis" is no option of EETQ: there are weights'],
])('the flags %j are refused', (flags, message) => {
  expect(() => fromFlags(flags)).toThrow(message)
})

test('flags stand for the config; keys that it does not know are reported', () => {
  expect(fromFlags({ bits: 8, groupSize: null })).toEqual({
    modules_to_not_convert: null,
    quant_method: 'eetq',
    weights: 'int8',
  })
  expect(fromFlags({ 'modules-to-not-convert': 'lm_head,k_proj' }).modules_to_not_convert).toEqual([
    'lm_head',
    'k_proj',
  ])
  expect(parse({ extra: 1 }).warnings).toEqual(['"extra" is no key of EETQ: it is not stored'])
})

const model: ModelInfo = {
  modelType: 'llama',
  tied: false,
  lastModule: 'lm_head',
  layers: 1,
  heads: 2,
  kvHeads: 2,
  dtype: 'BF16',
}
const linear = (name: string, shape: number[]): TensorInfo => ({ name, shape, dtype: 'BF16', role: 'linear' })
const TENSORS = [
  linear('model.layers.0.mlp.up_proj.weight', [128, 64]),
  linear('model.layers.0.mlp.down_proj.weight', [64, 96]),
  { ...linear('lm_head.weight', [256, 64]), role: 'head' as const },
]

test('what does not divide into tiles stays float and is written into the list, with the defaults', () => {
  const { tensors, storedConfig } = eetq.plan(TENSORS, model, parse({}))
  expect(tensors.map((t) => t.action)).toEqual(['quantize', 'keep', 'keep'])
  expect(storedConfig?.modules_to_not_convert).toEqual(['lm_head', 'model.layers.0.mlp.down_proj'])
  const listed = eetq.plan(TENSORS, model, parse({ modules_to_not_convert: [] }))
  expect(listed.tensors.map((t) => t.action)).toEqual(['quantize', 'keep', 'quantize'])
  expect(listed.storedConfig?.modules_to_not_convert).toEqual(['model.layers.0.mlp.down_proj'])
  expect(listed.warnings).toEqual([expect.stringContaining('lm_head is quantised')])
  const volta = eetq.plan(TENSORS, model, parse({ arrangement: 'sm70' }))
  expect(volta.tensors.map((t) => t.action)).toEqual(['quantize', 'quantize', 'keep'])
})

/** The weight [128, 64] of `name` as stored tensors that a test can damage. */
async function reader(edit: (tensors: Map<string, RawTensor>) => void = () => {}, arrangement = 'sm80') {
  const values = Float32Array.from(
    { length: 128 * 64 },
    (_, i) => (Math.sin(i * i) + Math.sin(3 * i * i) + Math.sin(i ** 3)) * (1 + (i >> 6)),
  )
  const own = parse({ arrangement }).settings
  const weight = await quantize({ name: 'a.weight', tensor: rawTensor('F32', [128, 64], values), settings: own })
  const tensors = new Map((await stored.write('a.weight', weight, own)).map((t) => [t.name, t.tensor]))
  edit(tensors)
  const read: StoredReader<Eetq> = {
    config: parse({}),
    has: (name) => tensors.has(name),
    dtypeOf: (name) => tensors.get(name)?.dtype,
    shapeOf: (name) => tensors.get(name)?.shape,
    read: async (name) => tensors.get(name)!,
    warn: (message) => expect.fail(message),
  }
  return { weight, read }
}

test.each(['sm80', 'sm70'])('%s is told from the bytes alone, and written again as it was', async (arrangement) => {
  const { weight, read } = await reader(undefined, arrangement)
  const found = await stored.read('a.weight', [128, 64], read)
  expect(hex(found.parts.codes.data)).toBe(hex(weight.parts.codes.data))
  const own = await stored.readSettings!('a.weight', read)
  expect(own.packing.name).toBe(arrangement)
  const [again] = await stored.write('a.weight', found, own)
  expect(hex(again.tensor.data)).toBe(hex((await read.read('a.weight')).data))
})

test('the older name of the weight, and scales of a float32 model', async () => {
  const { weight, read } = await reader((tensors) => {
    tensors.set('a.qweight', tensors.get('a.weight')!)
    tensors.delete('a.weight')
    const scales = tensors.get('a.weight_scales')!
    tensors.set('a.weight_scales', rawTensor('F32', scales.shape, toFloat32(scales)))
  })
  expect(stored.isStored('a.weight', read)).toBe(true)
  const found = await stored.read('a.weight', [128, 64], read)
  expect(hex(found.parts.scale.data)).toBe(hex(weight.parts.scale.data))
  expect(hex(found.parts.codes.data)).toBe(hex(weight.parts.codes.data))
})

const scaleOf = (value: number) => (tensors: Map<string, RawTensor>) => {
  const values = toFloat32(tensors.get('a.weight_scales')!).slice()
  values[5] = value
  tensors.set('a.weight_scales', { dtype: 'F16', shape: [128], data: fromFloat32(values, 'F16') })
}
const edited =
  (name: string, change: Partial<RawTensor>) =>
  (tensors: Map<string, RawTensor>): void => {
    tensors.set(name, { ...tensors.get(name)!, ...change })
  }

test.each<[string, (tensors: Map<string, RawTensor>) => void, string]>([
  ['a missing weight', (t) => t.delete('a.weight'), '"a.qweight": it is missing'],
  ['missing scales', (t) => t.delete('a.weight_scales'), '"a.weight_scales": it is missing'],
  ['NaN in the scales', scaleOf(Number.NaN), 'element 5 is NaN'],
  ['an infinite scale', scaleOf(Infinity), 'element 5 is Infinity'],
  ['a negative scale', scaleOf(-1), 'element 5 is -1, expected a finite number from 0 on'],
  ['scales of another length', edited('a.weight_scales', { shape: [64] }), 'it is F16 [64], expected F16 [128]'],
  ['bfloat16 scales', edited('a.weight_scales', { dtype: 'BF16' }), 'it is BF16 [128], expected F16 [128]'],
  ['a transposed weight', edited('a.weight', { shape: [128, 64] }), 'it is transposed, EETQ stores [in, out]'],
  ['a weight of another dtype', edited('a.weight', { dtype: 'U8' }), 'it is U8, expected I8'],
  [
    'plain rows of int8, in no permutation',
    (t) => edited('a.weight', { data: signed(unpack(PACKINGS.eetqSm80, t.get('a.weight')!.data, 128, 64)) })(t),
    'its bytes fit no order that EETQ writes (tried: sm80 and sm70)',
  ],
])('%s is refused by name', async (_, edit, message) => {
  const { read } = await reader(edit)
  await expect(stored.read('a.weight', [128, 64], read)).rejects.toThrow(message)
})
