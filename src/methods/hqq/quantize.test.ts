// Byte for byte against hqq 0.2.8 on torch 2.9.1: 80 weights, the optimiser's steps, packings, whole layers.
import { expect, test } from 'vitest'
import { fixtureJson, fixtureTensors } from '../../../test/support/fixtures.ts'
import { elementCount, type FloatDType, type RawTensor, rawTensor, TORCH_DTYPES } from '../../core/dtypes.ts'
import { fromFloat32, toFloat32 } from '../../core/half.ts'
import { fromPlain, type JsonObject, type PlainObject } from '../../core/json.ts'
import { PACKINGS, pack, unpack } from '../../weights/packing.ts'
import { decode, type QuantizedWeight } from '../../weights/weight.ts'
import { type HqqSettings, parseConfig } from './config.ts'
import { layoutOf } from './layout.ts'
import { type HqqTrace, quantizeGroups } from './oracle.ts'
import { quantize } from './quantize.ts'
import { stored } from './stored.ts'

interface Case {
  name: string
  compute_dtype: string
  args: PlainObject
  error?: string
  dequantize_error?: string
}
const { cases } = await fixtureJson<{ cases: Case[] }>('hqq/quantize.json')
const tensors = await fixtureTensors('hqq/quantize.safetensors')
const traces = (await fixtureJson<{ cases: (PlainObject & { name: string; iterations: number })[] }>('hqq/trace.json'))
  .cases
const trace = await fixtureTensors('hqq/trace.safetensors')
const packs = (await fixtureJson<{ cases: { name: string; pack: string }[] }>('hqq/pack.json')).cases
const packed = await fixtureTensors('hqq/pack.safetensors')
const linears = (
  await fixtureJson<{ cases: { name: string; compute_dtype: string; quant_config: PlainObject }[] }>('hqq/linear.json')
).cases
const linear = await fixtureTensors('hqq/linear.safetensors')

const get = (from: Map<string, RawTensor>, name: string) => from.get(name) ?? expect.fail(`no tensor ${name}`)
const hex = ({ dtype, shape, data }: RawTensor) => ({ dtype, shape, bytes: Buffer.from(data).toString('hex') })
/** -0 and 0 are one zero. */
const numbers32 = (values: Float32Array) => Array.from(values, (v) => v + 0)
const numbers = (tensor: RawTensor) => numbers32(toFloat32(tensor))
const castTo = (tensor: RawTensor, dtype: FloatDType): RawTensor => ({
  dtype,
  shape: tensor.shape,
  data: fromFloat32(toFloat32(tensor), dtype),
})
/** The fixtures quantise float32 weights and cast scale and zero afterwards, as a layer with another compute dtype does. */
const withMetaIn = (weight: QuantizedWeight, dtype: FloatDType): QuantizedWeight => {
  const { scale, zeroPoint } = weight.parts
  return { ...weight, parts: { ...weight.parts, scale: castTo(scale, dtype), zeroPoint: castTo(zeroPoint, dtype) } }
}
const settingsOf = (args: PlainObject) =>
  parseConfig({ quant_config: fromPlain(args) } as JsonObject).settings as HqqSettings

const REFUSED = cases.filter((c) => c.error ?? c.dequantize_error ?? c.name === 'h_nan')
const QUANTISED = cases.filter((c) => !REFUSED.includes(c))

test('the fixture holds 80 cases, of which 75 are quantised', () => {
  expect([cases.length, QUANTISED.length]).toEqual([80, 75])
})

test.each(QUANTISED)('$name: codes, scale, zero and values', async ({ name, args, compute_dtype }) => {
  const settings = settingsOf(args)
  const dtype = TORCH_DTYPES[compute_dtype] as FloatDType
  const full = await quantize({ name, tensor: castTo(get(tensors, `${name}.w`), 'F32'), settings })
  const weight = withMetaIn(full, dtype)
  const written = new Map((await stored.write('P.weight', weight, settings)).map((t) => [t.name, t.tensor]))
  expect(hex(get(written, 'P.W_q'))).toEqual(hex(get(tensors, `${name}.W_q`)))
  expect(numbers(full.parts.scale)).toEqual(numbers(get(tensors, `${name}.scale`)))
  expect(numbers(full.parts.zeroPoint)).toEqual(numbers(get(tensors, `${name}.zero`)))
  const deq32 = tensors.get(`${name}.deq32`)
  if (deq32) expect(numbers32(decode(full))).toEqual(numbers(deq32))
  const deq = tensors.get(`${name}.deq`)
  if (deq) expect(numbers32(decode(weight, 0, elementCount(weight.shape), dtype))).toEqual(numbers(deq))
})

test.each(REFUSED)('$name is refused', async ({ name, args }) => {
  const w = tensors.get(`${name}.w`) ?? rawTensor('F32', [7, 33], new Float32Array(231))
  const attempt = async () => quantize({ name: `${name}.weight`, tensor: w, settings: settingsOf(args) })
  await expect(attempt()).rejects.toThrow(name === 'e_bits7' ? '"nbits" is 7' : `"${name}.weight"`)
})

test.each(traces)('$name: every step of the optimiser', ({ name, iterations, nbits, axis, round_zero, group_size }) => {
  const settings = settingsOf({ nbits, axis, round_zero, group_size })
  const w = get(trace, `${name}.w`)
  const seen: HqqTrace = { zeros: [], errors: [] }
  const { inverseScale } = quantizeGroups(toFloat32(w), layoutOf(w.shape, settings), settings, seen)
  expect([...inverseScale]).toEqual(numbers(get(trace, `${name}.inv_scale`)))
  expect(seen.errors).toEqual(numbers(get(trace, `${name}.errors`)))
  expect(seen.errors).toHaveLength(iterations)
  expect(seen.zeros.flatMap((z) => [...z])).toEqual(numbers(get(trace, `${name}.zeros`)))
})

test.each(packs)('$name: codes and words both ways', ({ name, pack: reference }) => {
  const packing = Object.values(PACKINGS).find((p) => `pack_${p.name}` === reference)!
  const codes = get(packed, `${name}.codes`)
  const words = get(packed, `${name}.packed`)
  const [rows, columns] = codes.shape
  expect(Buffer.from(pack(packing, codes.data, rows, columns)).toString('hex')).toBe(hex(words).bytes)
  expect(Buffer.from(unpack(packing, words.data, rows, columns)).toString('hex')).toBe(hex(codes).bytes)
})

test.each(linears)('$name: the whole state dict of a layer', async ({ name, compute_dtype, quant_config }) => {
  const settings = settingsOf(quant_config)
  const dtype = TORCH_DTYPES[compute_dtype] as FloatDType
  const weight = withMetaIn(await quantize({ name, tensor: get(linear, `${name}.in.weight`), settings }), dtype)
  const written = await stored.write(`${name}.sd.weight`, weight, settings)
  const expected = [...linear].filter(([key]) => key.startsWith(`${name}.sd.`) && !key.endsWith('.bias'))
  expect(written).toHaveLength(19)
  expect(Object.fromEntries(written.map((t) => [t.name, hex(t.tensor)]))).toEqual(
    Object.fromEntries(expected.map(([key, t]) => [key, hex(t)])),
  )
  const deq = get(linear, `${name}.deq`)
  expect(numbers32(decode(weight, 0, elementCount(weight.shape), dtype))).toEqual(numbers(deq))
})
