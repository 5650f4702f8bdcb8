// Reading damaged, hostile and repaired checkpoints. Whole good ones are in test/golden/bitsandbytes.test.ts.
import { expect, test } from 'vitest'
import { DTYPE_BYTES, type DType, elementCount, type RawTensor, rawTensor } from '../../core/dtypes.ts'
import { FileError } from '../../core/errors.ts'
import { fromFloat32, toFloat32 } from '../../core/half.ts'
import { fromPlain, type JsonObject } from '../../core/json.ts'
import { decode, part } from '../../weights/weight.ts'
import { type BitsAndBytes, type BitsAndBytesSettings, parseConfig } from './config.ts'
import { quantize } from './quantize.ts'
import { stored } from './stored.ts'

const NAME = 'model.layers.0.self_attn.q_proj.weight'
const STATE = `${NAME}.quant_state.bitsandbytes__nf4`
const SHAPE = [4, 128]
const config4bit = parseConfig(fromPlain({ load_in_4bit: true, bnb_4bit_quant_type: 'nf4' }) as JsonObject)
const configInt8 = parseConfig(fromPlain({ load_in_8bit: true }) as JsonObject)

const VALUES = Float32Array.from({ length: 512 }, (_, i) => Math.sin(i * 1.7) * (1 + (i % 7)))

/** Stored tensors of a good weight, by name, to be damaged. */
async function storedTensors(settings: BitsAndBytesSettings, dtype: DType = 'F32'): Promise<Map<string, RawTensor>> {
  const tensor = { dtype, shape: SHAPE, data: fromFloat32(VALUES, dtype as 'F32') }
  const weight = await quantize({ name: NAME, tensor, settings })
  return new Map((await stored.write(NAME, weight, settings)).map((t) => [t.name, t.tensor]))
}

const single = { ...config4bit.settings, kind: '4bit', doubleQuant: false } as BitsAndBytesSettings
const nested = { ...config4bit.settings, kind: '4bit', doubleQuant: true } as BitsAndBytesSettings

function read(tensors: Map<string, RawTensor>, config: BitsAndBytes, warnings: string[] = []) {
  return stored.read(NAME, SHAPE, {
    config,
    has: (name) => tensors.has(name),
    dtypeOf: (name) => tensors.get(name)?.dtype,
    shapeOf: (name) => tensors.get(name)?.shape,
    read: async (name) => tensors.get(name)!,
    warn: (message) => warnings.push(message),
  })
}

const text = (value: string) => rawTensor('U8', [value.length], new TextEncoder().encode(value))
const stateText = (tensors: Map<string, RawTensor>) => new TextDecoder().decode(tensors.get(STATE)!.data)

/** The good tensors with quant_state's text edited. */
async function withState(settings: BitsAndBytesSettings, edit: (state: string) => string) {
  const tensors = await storedTensors(settings)
  const edited = edit(stateText(tensors))
  expect(edited).not.toBe(stateText(tensors))
  return tensors.set(STATE, text(edited))
}

test.each(['F32', 'BF16', 'F16'] as const)('a %s weight names its own dtype in quant_state', async (dtype) => {
  const tensors = await storedTensors(single, dtype)
  const name = { F32: 'float32', BF16: 'bfloat16', F16: 'float16' }[dtype]
  expect(stateText(tensors)).toBe(`{"quant_type": "nf4", "blocksize": 64, "dtype": "${name}", "shape": [4, 128]}`)
  expect((await read(tensors, config4bit)).scheme).toMatchObject({ original: dtype })
})

test.each(['int8', 'float16', 'bfloat16', 'float32', 'float64'])('storage %s is a bag of bytes', async (storage) => {
  const config = parseConfig(
    fromPlain({ load_in_4bit: true, bnb_4bit_quant_type: 'nf4', bnb_4bit_quant_storage: storage }) as JsonObject,
  )
  const tensors = await storedTensors(config.settings)
  const { dtype, shape } = tensors.get(NAME)!
  expect(elementCount(shape) * DTYPE_BYTES[dtype]).toBe(256)
  const plain = await storedTensors(single)
  expect([...tensors.get(NAME)!.data]).toEqual([...plain.get(NAME)!.data])
  expect(decode(await read(tensors, config))).toEqual(decode(await read(plain, config4bit)))
})

const STATES: [string, (state: string) => string, string][] = [
  ['is no JSON', (s) => s.slice(0, -1), 'as JSON'],
  ['is a list', () => '[]', 'the top level is not an object'],
  ['has block size 0', (s) => s.replace('"blocksize": 64', '"blocksize": 0'), '"blocksize" is 0, expected one of 32'],
  ['has block size 48', (s) => s.replace('"blocksize": 64', '"blocksize": 48'), '"blocksize" is 48'],
  ['lacks its block size', (s) => s.replace('"blocksize": 64, ', ''), '"blocksize" is missing'],
  ['has another type than its name', (s) => s.replace('nf4', 'fp4'), '"quant_type" is "fp4"'],
  ['has an unknown type', (s) => s.replace('nf4', 'nf8'), '"quant_type" is "nf8"'],
  ['has an unknown dtype', (s) => s.replace('float32', 'int64'), '"dtype" is "int64"'],
  ['has another shape', (s) => s.replace('[4, 128]', '[128, 4]'), '"shape" is [128,4], the model expects [4,128]'],
  ['has a huge shape', (s) => s.replace('[4, 128]', '[4000000000, 4000000000]'), '"shape" is [4000000000'],
  ['has a negative shape', (s) => s.replace('[4, 128]', '[-4, -128]'), '"shape" is [-4,-128]'],
]
test.each(STATES)('a quant_state that %s is refused', async (_, edit, message) => {
  const tensors = await withState(single, edit)
  await expect(read(tensors, config4bit)).rejects.toThrow(FileError)
  await expect(read(tensors, config4bit)).rejects.toThrow(message)
})

const offset = /"nested_offset": [^}]+/
const NESTED_STATES: [string, (state: string) => string, string][] = [
  ['is NaN', (s) => s.replace(offset, '"nested_offset": NaN'), '"nested_offset" is NaN'],
  ['is Infinity', (s) => s.replace(offset, '"nested_offset": -Infinity'), '"nested_offset" is -Infinity'],
  ['is text', (s) => s.replace(offset, '"nested_offset": "0"'), '"nested_offset" is "0"'],
  ['has blocks of 0', (s) => s.replace('"nested_blocksize": 256', '"nested_blocksize": 0'), '"nested_blocksize" is 0'],
  ['has another dtype', (s) => s.replace('"nested_dtype": "float32"', '"nested_dtype": "float16"'), '"nested_dtype"'],
]
test.each(NESTED_STATES)('a nested offset or block that %s is refused', async (_, edit, message) => {
  await expect(read(await withState(nested, edit), config4bit)).rejects.toThrow(FileError)
  await expect(read(await withState(nested, edit), config4bit)).rejects.toThrow(message)
})

test('nested blocks of another size are restored by that size', async () => {
  const tensors = await withState(nested, (s) => s.replace('"nested_blocksize": 256', '"nested_blocksize": 4'))
  const four = Float32Array.of(0.5, 0.25)
  tensors.set(`${NAME}.nested_absmax`, rawTensor('F32', [2], four))
  const weight = await read(tensors, config4bit)
  expect(weight.scheme).toMatchObject({ nestedSize: 4 })
  expect(toFloat32(part(weight, 'nestedScale'))).toEqual(four)
})

const f32 = (count: number, value = 1) => rawTensor('F32', [count], new Float32Array(count).fill(value))
const TENSORS: [string, BitsAndBytesSettings, (t: Map<string, RawTensor>) => unknown, string][] = [
  ['no packed codes', single, (t) => t.delete(NAME), `"${NAME}": it is missing`],
  ['no absmax', single, (t) => t.delete(`${NAME}.absmax`), `"${NAME}.absmax": it is missing`],
  ['no quant_state', single, (t) => t.delete(STATE), `its quant_state "${STATE}" (or fp4) is missing`],
  ['two quant_states', single, (t) => t.set(STATE.replace('nf4', 'fp4'), t.get(STATE)!), 'it has two quant_states'],
  ['a huge quant_state', single, (t) => t.set(STATE, text(' '.repeat(5000))), 'with 5000 elements'],
  ['too few codes', single, (t) => t.set(NAME, rawTensor('U8', [255, 1], new Uint8Array(255))), '255 bytes'],
  ['integer codes', single, (t) => t.set(NAME, rawTensor('I64', [32], new Uint8Array(256))), 'it is I64'],
  ['too few scales', single, (t) => t.set(`${NAME}.absmax`, f32(7)), 'it is F32 [7], expected F32 [8]'],
  ['a NaN scale', single, (t) => t.set(`${NAME}.absmax`, f32(8, Number.NaN)), 'element 0 is NaN'],
  ['float scales where nested', nested, (t) => t.set(`${NAME}.absmax`, f32(8)), 'it is F32 [8], expected U8 [8]'],
  ['no nested scales', nested, (t) => t.delete(`${NAME}.nested_absmax`), 'nested_absmax": it is missing'],
  ['too many nested scales', nested, (t) => t.set(`${NAME}.nested_absmax`, f32(2)), 'it is F32 [2], expected F32 [1]'],
  ['no nested table', nested, (t) => t.delete(`${NAME}.nested_quant_map`), 'nested_quant_map": it is missing'],
  ['a short nested table', nested, (t) => t.set(`${NAME}.nested_quant_map`, f32(255)), 'expected F32 [256]'],
]
test.each(TENSORS)('a file with %s is refused by tensor', async (_, settings, damage, message) => {
  const tensors = await storedTensors(settings)
  damage(tensors)
  await expect(read(tensors, config4bit)).rejects.toThrow(FileError)
  await expect(read(tensors, config4bit)).rejects.toThrow(message)
  await expect(read(tensors, config4bit)).rejects.toThrow(expect.objectContaining({ hint: expect.any(String) }))
})

test('a weight is stored quantised as soon as anything that belongs to it is there', () => {
  const isStored = (names: Record<string, DType>) =>
    stored.isStored(NAME, {
      config: config4bit,
      has: (name) => name in names,
      dtypeOf: (name) => names[name],
      shapeOf: () => [1],
      read: () => expect.fail('nothing is read'),
      warn: () => expect.fail('nothing is warned of'),
    })
  expect(isStored({ [NAME]: 'BF16' })).toBe(false)
  expect(isStored({ [NAME]: 'BF16', [STATE]: 'U8' })).toBe(true)
  expect(isStored({ [NAME]: 'U8' })).toBe(true)
  expect(isStored({ [NAME.replace('weight', 'SCB')]: 'F32' })).toBe(true)
})

test('scales that a CPU forward has transposed and rounded are put back in order, with a warning', async () => {
  const tensors = await storedTensors(single)
  const good = toFloat32(tensors.get(`${NAME}.absmax`)!)
  const [rows, perRow] = [4, 2]
  const transposed = Float32Array.from(good, (_, i) => good[(i % rows) * perRow + Math.floor(i / rows)])
  tensors.set(`${NAME}.absmax`, rawTensor('BF16', [perRow, rows], fromFloat32(transposed, 'BF16')))
  const warnings: string[] = []
  const weight = await read(tensors, config4bit, warnings)
  expect(part(weight, 'scale').shape).toEqual([8])
  expect([...toFloat32(part(weight, 'scale'))]).toEqual([
    ...toFloat32(rawTensor('BF16', [8], fromFloat32(good, 'BF16'))),
  ])
  expect(warnings).toEqual([expect.stringContaining(`"${NAME}.absmax" is BF16 [2,4]`)])
})

test('scales of the wrong transposed shape are refused', async () => {
  const tensors = await storedTensors(single)
  tensors.set(`${NAME}.absmax`, rawTensor('BF16', [8, 1], new Uint16Array(8)))
  await expect(read(tensors, config4bit)).rejects.toThrow('it is BF16 [8,1], expected F32 [8]')
})

test('a table that is missing or differs is a warning: the built-in one is used', async () => {
  const tensors = await storedTensors(single)
  const expected = decode(await read(tensors, config4bit))
  const warnings: string[] = []
  tensors.set(`${NAME}.quant_map`, f32(16, 0.5))
  expect(decode(await read(tensors, config4bit, warnings))).toEqual(expected)
  tensors.delete(`${NAME}.quant_map`)
  expect(decode(await read(tensors, config4bit, warnings))).toEqual(expected)
  expect(warnings).toEqual([expect.stringContaining('differs'), expect.stringContaining('is missing')])
})

const MODULE = NAME.slice(0, -'.weight'.length)
const INT8: [string, (t: Map<string, RawTensor>) => unknown, string][] = [
  ['no SCB', (t) => t.delete(`${MODULE}.SCB`), `"${MODULE}.SCB": it is missing`],
  ['SCB of another length', (t) => t.set(`${MODULE}.SCB`, f32(5)), 'it is F32 [5], expected F32 [4]'],
  ['an infinite SCB', (t) => t.set(`${MODULE}.SCB`, f32(4, Infinity)), 'element 0 is Infinity'],
  ['a GPU tiling', (t) => t.set(`${MODULE}.weight_format`, rawTensor('U8', [], Uint8Array.of(2))), 'format 2 is a GPU'],
  ['a long weight_format', (t) => t.set(`${MODULE}.weight_format`, text('row')), 'it is U8 [3], expected one U8'],
  ['another shape', (t) => t.set(NAME, rawTensor('I8', [128, 4], new Int8Array(512))), 'it is I8 [128,4]'],
  ['unsigned codes', (t) => t.set(NAME, rawTensor('U8', SHAPE, new Int8Array(512))), 'it is U8 [4,128]'],
]
test.each(INT8)('an LLM.int8 weight with %s is refused by tensor', async (_, damage, message) => {
  const tensors = await storedTensors(configInt8.settings)
  damage(tensors)
  await expect(read(tensors, configInt8)).rejects.toThrow(FileError)
  await expect(read(tensors, configInt8)).rejects.toThrow(message)
})

test('an LLM.int8 weight without weight_format is in rows', async () => {
  const tensors = await storedTensors(configInt8.settings)
  const expected = decode(await read(tensors, configInt8))
  tensors.delete(`${MODULE}.weight_format`)
  expect(decode(await read(tensors, configInt8))).toEqual(expected)
})
