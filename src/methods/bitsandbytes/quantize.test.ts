// Byte for byte against bitsandbytes 0.50.2: tables, 67 4-bit weights with their stored tensors, the LLM.int8 weights.
import { createHash } from 'node:crypto'
import { expect, test } from 'vitest'
import { fixtureJson, fixtureTensors } from '../../../test/support/fixtures.ts'
import { type DType, type RawTensor, rawTensor, TORCH_DTYPES } from '../../core/dtypes.ts'
import { WeightError } from '../../core/errors.ts'
import { roundTo, toFloat32 } from '../../core/half.ts'
import { CODE_ORDER, dynamicMap, LOOKUP_TABLES, lookupBounds } from '../../weights/tables.ts'
import { decode, restoreScales } from '../../weights/weight.ts'
import type { BitsAndBytesSettings } from './config.ts'
import { quantize4bit, quantizeAbsmax, quantizeDynamic } from './oracle.ts'
import { quantize } from './quantize.ts'
import { stored } from './stored.ts'

interface Case4 {
  name: string
  input: string
  quant_type: 'nf4' | 'fp4'
  blocksize: number
  compress_statistics: boolean
  quant_storage: string
  quant_state_json: string
}
interface Case8 {
  name: string
  what: string
}
const tables = await fixtureTensors('bitsandbytes/tables.safetensors')
const quant4 = await fixtureTensors('bitsandbytes/quant4.safetensors')
const cases4 = (await fixtureJson<{ cases: Case4[] }>('bitsandbytes/quant4.json')).cases
const int8 = await fixtureTensors('bitsandbytes/int8.safetensors')
const weights8 = (await fixtureJson<{ cases: Case8[] }>('bitsandbytes/int8.json')).cases.filter(
  (c) => c.what === 'weight',
)

const hex = (tensor: RawTensor) => ({
  dtype: tensor.dtype,
  shape: tensor.shape,
  bytes: Buffer.from(tensor.data).toString('hex'),
})
const words = (values: Float32Array) => Array.from(new Uint32Array(values.slice().buffer), (w) => w.toString(16))
const get = (tensors: Map<string, RawTensor>, name: string) => tensors.get(name) ?? expect.fail(`no tensor ${name}`)

test.each(['nf4', 'fp4'] as const)('the %s table, its bounds and its order are the reference ones', (type) => {
  expect(words(LOOKUP_TABLES[type])).toEqual(words(toFloat32(get(tables, `${type}_map`))))
  expect(words(lookupBounds(type))).toEqual(words(toFloat32(get(tables, `${type}_bounds`))))
  expect(CODE_ORDER[type]).toEqual([...get(tables, `${type}_order`).data])
})

test('the dynamic map is the reference one, and its codes of a ramp', () => {
  const map = dynamicMap()
  expect(words(map)).toEqual(words(toFloat32(get(tables, 'dynamic_map'))))
  const digest = createHash('sha256').update(new Uint8Array(map.buffer)).digest('hex')
  expect(digest).toBe('e732639a65f497b4ad684bb166a4467708255edd5207757de8b8f0c7e1fda89c')
  const { codes, absmax } = quantizeDynamic(toFloat32(get(tables, 'ramp_input')), 256)
  expect(words(absmax)).toEqual(words(toFloat32(get(tables, 'ramp_absmax'))))
  expect(Buffer.from(codes).equals(get(tables, 'ramp_codes').data)).toBe(true)
})

function settingsOf(c: Case4): BitsAndBytesSettings {
  return {
    kind: '4bit',
    quantType: c.quant_type,
    blockSize: c.blocksize,
    doubleQuant: c.compress_statistics,
    storage: TORCH_DTYPES[c.quant_storage],
  }
}

test.each(cases4)('$name: every stored byte', async (c) => {
  const settings = settingsOf(c)
  const weight = await quantize({ name: c.name, tensor: get(quant4, c.input), settings })
  for (const { name, tensor } of await stored.write(`${c.name}.weight`, weight, settings)) {
    if (name.endsWith('quant_map')) continue // the tables are checked above
    expect({ name, ...hex(tensor) }).toEqual({ name, ...hex(get(quant4, name)) })
  }
  const written = await stored.write(`${c.name}.weight`, weight, settings)
  const state = written.find(({ name }) => name.includes('quant_state'))!
  expect(new TextDecoder().decode(state.tensor.data)).toBe(c.quant_state_json)
})

/** FP4's second zero is -0 on one of the reference's paths: compared as numbers. */
const numbers = (values: Float32Array) => Array.from(values, (v) => v + 0)

const RESTORED = [
  ['f32', 'F32'],
  ['bf16', 'BF16'],
  ['f16', 'F16'],
] as const

test.each(cases4)('$name: restored scales and values', async (c) => {
  const weight = await quantize({ name: c.name, tensor: get(quant4, c.input), settings: settingsOf(c) })
  const scales = quant4.get(`${c.name}.absmax_restored`)
  if (scales) expect(words(restoreScales(weight))).toEqual(words(toFloat32(scales)))
  const decoded = decode(weight)
  for (const [suffix, dtype] of RESTORED) {
    const expected = quant4.get(`${c.name}.dequant_${suffix}`)
    if (expected) expect(numbers(decoded.map((v) => roundTo(dtype, v)))).toEqual(numbers(toFloat32(expected)))
  }
})

test.each(weights8)('$name: LLM.int8 codes, SCB and restored values', async ({ name }) => {
  const tensor = get(int8, `${name}.input`)
  const settings = { kind: 'int8', outlierThreshold: 6 } as const
  const weight = await quantize({ name, tensor, settings })
  const [codes, scb] = await stored.write(`${name}.weight`, weight, settings)
  expect(hex(codes.tensor)).toEqual(hex(get(int8, `${name}.weight`)))
  expect(hex(scb.tensor)).toEqual(hex(get(int8, `${name}.SCB`)))
  const values = int8.get(`${name}.dequant_f32`) // left out of the larger cases
  if (values) expect(words(decode(weight))).toEqual(words(toFloat32(values)))
})

test('double quantisation: the example of the format page', () => {
  const last = [0.3, -0.1, 0.2]
  const x = Float32Array.from({ length: 131 }, (_, i) => (i < 64 ? (i / 63) * 0.5 : i < 128 ? -0.125 : last[i - 128]))
  const { codes, nestedAbsmax, offset } = quantizeAbsmax(quantize4bit(x, 64, 'nf4').absmax)
  expect([...codes]).toEqual([255, 3, 84])
  expect(words(nestedAbsmax)).toEqual(['3e444444'])
  expect(words(Float32Array.of(offset))).toEqual(['3e9dddde'])
})

test('a short block: the example of the format page', async () => {
  const x = Float32Array.of(0.5, -0.25, 0.1, 0, -0, 1e-3, -1e-3, 2, -2, 0.7, 1.2)
  const bytes = async (quantType: 'nf4' | 'fp4') => {
    const settings = { kind: '4bit', quantType, blockSize: 64, doubleQuant: false, storage: 'U8' } as const
    const weight = await quantize({ name: 'x', tensor: rawTensor('F32', [1, 11], x), settings })
    return Buffer.from((await stored.write('x.weight', weight, settings))[0].tensor.data).toString('hex')
  }
  expect(await bytes('nf4')).toBe('a687777f0bd7')
  expect(await bytes('fp4')).toBe('7e100803b420')
})

test.each([Number.NaN, Infinity, -Infinity])('%d is refused by name and position', async (bad) => {
  const tensor = rawTensor('F32', [1, 4], Float32Array.of(0, 1, bad, 2))
  const settings = {
    kind: '4bit',
    quantType: 'nf4',
    blockSize: 64,
    doubleQuant: false,
    storage: 'U8' as DType,
  } as const
  await expect(quantize({ name: 'layer.weight', tensor, settings })).rejects.toThrow(WeightError)
  await expect(quantize({ name: 'layer.weight', tensor, settings })).rejects.toThrow('"layer.weight": element 2')
})

test('LLM.int8 refuses what overflows float16', async () => {
  const tensor = rawTensor('F32', [1, 2], Float32Array.of(65519, 65520))
  const settings = { kind: 'int8', outlierThreshold: 6 } as const
  await expect(quantize({ name: 'w', tensor, settings })).rejects.toThrow('element 1 is 65520, beyond float16')
})
