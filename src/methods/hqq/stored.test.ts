// Reading damaged, older and unusual layers. Whole good ones are in test/golden/hqq.test.ts.
import { expect, test } from 'vitest'
import { type RawTensor, rawTensor } from '../../core/dtypes.ts'
import { FileError, WeightError } from '../../core/errors.ts'
import { fromFloat32 } from '../../core/half.ts'
import { fromPlain, type JsonObject, type PlainObject } from '../../core/json.ts'
import { decode } from '../../weights/weight.ts'
import { type HqqSettings, parseConfig } from './config.ts'
import { quantize } from './quantize.ts'
import { stored } from './stored.ts'

const NAME = 'model.layers.0.mlp.up_proj.weight'
const MODULE = 'model.layers.0.mlp.up_proj'
const SHAPE = [8, 128]
const VALUES = Float32Array.from({ length: 1024 }, (_, i) => Math.sin(i * 1.7) * (1 + (i % 7)) * 0.03)
const config = parseConfig({})

const settingsOf = (params: PlainObject) => parseConfig(fromPlain(params) as JsonObject).settings as HqqSettings

async function layer(params: PlainObject = {}, dtype: 'F32' | 'F16' | 'BF16' = 'F32') {
  const settings = settingsOf(params)
  const tensor = { dtype, shape: SHAPE, data: fromFloat32(VALUES, dtype) }
  const weight = await quantize({ name: NAME, tensor, settings })
  const tensors = new Map((await stored.write(NAME, weight, settings)).map((t) => [t.name, t.tensor]))
  return { weight, tensors }
}

const readerOf = (tensors: Map<string, RawTensor>) => ({
  config,
  has: (name: string) => tensors.has(name),
  dtypeOf: (name: string) => tensors.get(name)?.dtype,
  shapeOf: (name: string) => tensors.get(name)?.shape,
  read: async (name: string) => tensors.get(name)!,
  warn: (message: string) => expect.fail(message),
})
const read = (tensors: Map<string, RawTensor>) => stored.read(NAME, SHAPE, readerOf(tensors))
const int32 = (value: number) => rawTensor('I32', [], Int32Array.of(value))
const text = (value: string) => rawTensor('U8', [value.length], new TextEncoder().encode(value))

test.each([
  [{ nbits: 8 }, 'F32'],
  [{ nbits: 5, axis: 0 }, 'F16'],
  [{ nbits: 3 }, 'BF16'],
  [{ nbits: 1.58, axis: 0, group_size: 8 }, 'F32'],
  [{ nbits: 1, group_size: 16 }, 'F32'],
  [{ nbits: 4, group_size: null }, 'F32'],
  [{ nbits: 4, group_size: null, axis: 0 }, 'F32'],
  [{ nbits: 4, channel_wise: false }, 'F32'],
  [{ nbits: 4, view_as_float: true }, 'BF16'],
  [{ nbits: 3, view_as_float: true }, 'F16'],
] as [PlainObject, 'F32' | 'F16' | 'BF16'][])('%j in %s is read as it was written', async (params, dtype) => {
  const { weight, tensors } = await layer(params, dtype)
  const found = await read(tensors)
  expect(found.scheme).toEqual(weight.scheme)
  expect(decode(found)).toEqual(decode(weight))
  const settings = await stored.readSettings!(NAME, readerOf(tensors))
  expect(new Map((await stored.write(NAME, found, settings)).map((t) => [t.name, t.tensor]))).toEqual(tensors)
})

test('nine tensors are enough, and view_as_float may be missing too', async () => {
  const { weight, tensors } = await layer()
  const needed = ['W_q', 'scale', 'zero', 'shape', 'nbits', 'group_size', 'axis', 'packing']
  const few = new Map(needed.map((key) => [`${MODULE}.${key}`, tensors.get(`${MODULE}.${key}`)!]))
  expect(decode(await read(few))).toEqual(decode(weight))
  for (const key of needed) {
    const fewer = new Map(few)
    fewer.delete(`${MODULE}.${key}`)
    await expect(read(fewer), key).rejects.toThrow(`"${MODULE}.${key}": it is missing`)
  }
})

test('1.58 bits that were read back as 1 are known by their packing', async () => {
  const { weight, tensors } = await layer({ nbits: 1.58 })
  tensors.set(`${MODULE}.nbits`, int32(1))
  expect(decode(await read(tensors))).toEqual(decode(weight))
})

test.each([
  ['packing', text('5bit_u8'), 'it says "5bit_u8", expected 8bit_u8'],
  ['packing', text('2bit_u8'), '4 bits do not go with packing 2bit_u8'],
  ['packing', text('4bit_u8'.repeat(20)), 'expected at most 64 characters'],
  ['compute_dtype', text('os.system("x")'), 'expected torch.float32, torch.float16, torch.bfloat16'],
  ['unpack_view_dtype', text('torch.int32'), 'expected torch.uint8'],
  ['nbits', int32(7), '7 bits do not go with packing 4bit_u8'],
  ['axis', int32(2), 'it is 2, expected 0 or 1'],
  ['group_size', int32(0), 'it is 0, expected a size above 0'],
  ['group_size', int32(-64), 'it is -64'],
  ['group_size', int32(63), 'its 1024 weights do not divide into groups of 63'],
  ['group_size', int32(32), 'expected F32 or F16 or BF16 [32,1]'],
  ['shape', rawTensor('I64', [2], BigInt64Array.of(128n, 8n)), 'it says [128,8], the model expects [8,128]'],
  ['view_as_float', rawTensor('U8', [], Uint8Array.of(2)), 'it is 2, expected 0 or 1'],
  ['view_as_float', rawTensor('U8', [], Uint8Array.of(1)), 'expected F32 or F16 or BF16'],
  ['quant_zero', rawTensor('U8', [], Uint8Array.of(1)), 'scales or zeros are quantised themselves'],
  ['W_q', rawTensor('U8', [8, 63], new Uint8Array(504)), 'it is U8 [8,63], expected U8 [8,64]'],
  ['W_q', rawTensor('I32', [8, 64], new Int32Array(512)), 'it is I32 [8,64], expected U8 [8,64]'],
  ['scale', rawTensor('F32', [16, 1], new Float32Array(16).fill(Number.NaN)), 'element 0 is NaN'],
  ['zero', rawTensor('F32', [16], new Float32Array(16)), 'it is F32 [16]'],
])('a layer whose %s is wrong is refused by name', async (key, tensor, message) => {
  const { tensors } = await layer()
  tensors.set(`${MODULE}.${key}`, tensor)
  await expect(read(tensors)).rejects.toThrow(FileError)
  await expect(read(tensors)).rejects.toThrow(message)
})

test('a code that does not fit the bits is refused', async () => {
  const { tensors } = await layer({ nbits: 5 })
  tensors.get(`${MODULE}.W_q`)!.data[3] = 32
  await expect(read(tensors)).rejects.toThrow('code 32 of weight 3 does not fit 5 bits')
})

test('groups whose range is tiny but not zero are a warning, constant ones are not', async () => {
  const w = new Float32Array(256).fill(0.5)
  for (let i = 64; i < 128; i++) w[i] = i * 1e-7
  const warnings: string[] = []
  const tensor = rawTensor('F32', [4, 64], w)
  await quantize({ name: NAME, tensor, settings: settingsOf({}), warn: (message) => warnings.push(message) })
  expect(warnings).toEqual([expect.stringContaining(`"${NAME}": 1 of 4 groups have a range below`)])
})

test.each([
  [Number.NaN, 'F32', 'element 5 is NaN'],
  [-Infinity, 'F32', 'element 5 is -Infinity'],
  [60000, 'F16', 'the zero of group 0 is'],
] as const)('%d in %s is refused by name', async (bad, dtype, message) => {
  const w = new Float32Array(128).fill(bad)
  w[5] = bad
  for (let i = 64; i < 128; i++) w[i] = 0.1
  for (let i = 0; i < 64; i++) if (i !== 5) w[i] = dtype === 'F16' ? 59968 + 32 * (i % 2) : 0
  const attempt = () =>
    quantize({
      name: NAME,
      tensor: { dtype, shape: [2, 64], data: fromFloat32(w, dtype) },
      settings: settingsOf({ nbits: 8 }),
    })
  await expect(attempt()).rejects.toThrow(WeightError)
  await expect(attempt()).rejects.toThrow(message)
})
