// AWQ files that lie: each is refused, naming the tensor or the key and what is wrong with it, within 5 s and 512 MB.
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { safetensorsHeader, safetensorsOrder } from '../../src/checkpoint/safetensors.ts'
import { type DType, type RawTensor, rawTensor } from '../../src/core/dtypes.ts'
import type { FewbitError } from '../../src/core/errors.ts'
import { fromFloat32, toFloat32 } from '../../src/core/half.ts'
import { fixture } from '../support/fixtures.ts'
import { refusalOf } from '../support/refusal.ts'
import { fixtureTensors } from '../support/tensors.ts'

const MAX_MS = 5000
const MAX_GROWTH_BYTES = 512 * 2 ** 20
const FOLDERS = {
  gemm: 'awq/llama_g32_f32_gemm/checkpoint',
  gemv: 'awq/qwen2_g64_bf16_gemv/checkpoint',
  gemv_fast: 'awq/gemma_g128_f16_gemv_fast/checkpoint',
} as const
type Version = keyof typeof FOLDERS
type Tensors = Map<string, RawTensor>

const MODULE = 'model.layers.0.mlp.down_proj'
const originals = new Map<string, ReadonlyMap<string, RawTensor>>()
for (const folder of Object.values(FOLDERS)) {
  const tensors = await fixtureTensors(`${folder}/model.safetensors`)
  const raw = [...tensors].map(([name, t]): [string, RawTensor] => [
    name,
    { dtype: t.dtype as DType, shape: t.shape, data: t.data },
  ])
  originals.set(folder, new Map(raw))
}

/** The bytes of a safetensors file. */
function fileOf(tensors: Tensors): Uint8Array {
  const entries = [...tensors].map(([name, { dtype, shape, data }]) => ({ name, dtype, shape: [...shape], data }))
  entries.sort(safetensorsOrder)
  const { header, offsets, total } = safetensorsHeader(entries, new Map([['format', 'pt']]))
  const file = new Uint8Array(total)
  file.set(header)
  entries.forEach(({ data }, i) => {
    file.set(data, offsets[i])
  })
  return file
}

/** What a changed folder is answered with when all of it is read. */
async function refusal(
  version: Version,
  change: (tensors: Tensors) => void,
  config: Record<string, unknown> = {},
  files: Record<string, string> = {},
): Promise<FewbitError> {
  const folder = FOLDERS[version]
  const tensors: Tensors = new Map(originals.get(folder)!)
  change(tensors)
  const { quantization_config, ...rest } = JSON.parse(readFileSync(fixture(`${folder}/config.json`), 'utf8'))
  const changed = 'config' in config ? config.config : { ...quantization_config, ...config }
  const configJson = JSON.stringify(changed === null ? rest : { ...rest, quantization_config: changed })
  const all = { ...files, 'config.json': configJson, 'model.safetensors': fileOf(tensors) }
  const before = process.memoryUsage().rss
  const error = await refusalOf(all, MAX_MS)
  expect(process.memoryUsage().rss - before).toBeLessThan(MAX_GROWTH_BYTES)
  return error
}

const replaced = (part: string, dtype: string, ...shape: number[]) => {
  const bytes = shape.reduce((a, b) => a * b, 1) * { I32: 4, F16: 2, I16: 2, F32: 4, I64: 8, U8: 1, BF16: 2 }[dtype]!
  return (tensors: Tensors) => {
    expect(tensors.has(`${MODULE}.${part}`)).toBe(true)
    tensors.set(`${MODULE}.${part}`, rawTensor(dtype as DType, shape, new Uint8Array(bytes).fill(1)))
  }
}

const removed = (part: string) => (tensors: Tensors) => {
  expect(tensors.delete(`${MODULE}.${part}`)).toBe(true)
}

/** One value of a float tensor. */
const poisoned = (part: string, index: number, value: number) => (tensors: Tensors) => {
  const tensor = tensors.get(`${MODULE}.${part}`)!
  const values = toFloat32(tensor).slice()
  values[index] = value
  tensors.set(`${MODULE}.${part}`, rawTensor('F16', tensor.shape, fromFloat32(values, 'F16')))
}

// down_proj is [128, 256] in the gemm fixture, [128, 192] in the gemv one and [128, 256] in that of gemv_fast.
const CASES: readonly (readonly [string, Version, (tensors: Tensors) => void, string, RegExp])[] = [
  ['no qweight', 'gemm', removed('qweight'), 'weight', /missing|belongs to another|no tensor/i],
  ['no qzeros', 'gemm', removed('qzeros'), 'qweight', /scales to match|missing/],
  ['no scales', 'gemm', removed('scales'), 'qweight', /scales to match|missing/],
  ['qweight of floats', 'gemm', replaced('qweight', 'F32', 256, 16), 'qweight', /it is F32, expected I32 or I16/],
  ['qweight of int64', 'gemm', replaced('qweight', 'I64', 256, 16), 'qweight', /it is I64/],
  ['a row too few', 'gemm', replaced('qweight', 'I32', 255, 16), 'qweight', /its shape is \[255,16\].*\[256,16\]/],
  ['a word too few', 'gemm', replaced('qweight', 'I32', 256, 15), 'qweight', /its shape is \[256,15\]/],
  ['qweight transposed', 'gemm', replaced('qweight', 'I32', 16, 256), 'qweight', /its shape is \[16,256\]/],
  ['qweight of one axis', 'gemm', replaced('qweight', 'I32', 4096), 'qweight', /its shape is \[4096\]/],
  ['an empty qweight', 'gemm', replaced('qweight', 'I32', 0, 16), 'qweight', /its shape is \[0,16\]/],
  ['zeros of another group size', 'gemm', replaced('qzeros', 'I32', 4, 16), 'qweight', /scales to match/],
  ['zeros that are halves', 'gemm', replaced('qzeros', 'F16', 8, 16), 'qzeros', /it is F16, expected I32/],
  ['scales of another group size', 'gemm', replaced('scales', 'F16', 4, 128), 'qweight', /scales to match/],
  ['scales of float32', 'gemm', replaced('scales', 'F32', 8, 128), 'scales', /it is F32, expected F16/],
  ['scales of bfloat16', 'gemm', replaced('scales', 'BF16', 8, 128), 'scales', /it is BF16, expected F16/],
  ['a scale that is no number', 'gemm', poisoned('scales', 130, NaN), 'scales', /output 2, group 1, is NaN/],
  ['an infinite scale', 'gemm', poisoned('scales', 0, Infinity), 'scales', /output 0, group 0, is Infinity/],
  ['a scale of 0', 'gemm', poisoned('scales', 7, 0), 'scales', /output 7, group 0, is 0/],
  [
    'a bias of int32',
    'gemm',
    (t) => t.set('model.norm.weight', rawTensor('I32', [128], new Int32Array(128))),
    '',
    /norm/,
  ],
  ['gemv with the words of gemm', 'gemv', replaced('qweight', 'I32', 192, 16), 'qweight', /its shape is \[192,16\]/],
  ['gemv with fewer padded zeros', 'gemv', replaced('qzeros', 'I32', 128, 1), 'qweight', /scales to match/],
  ['gemv with fewer padded scales', 'gemv', replaced('scales', 'F16', 128, 8), 'qweight', /scales to match/],
  ['a value behind the last group', 'gemv', poisoned('scales', 15, 0.5), 'scales', /behind the last group is not zero/],
  [
    'gemv_fast with int32 words',
    'gemv_fast',
    replaced('qweight', 'I32', 32, 256),
    'qweight',
    /its shape is \[32,256\]/,
  ],
  [
    'gemv_fast a row too few',
    'gemv_fast',
    replaced('qweight', 'I16', 31, 256),
    'qweight',
    /\[31,256\], expected \[32,256\]/,
  ],
  ['gemv_fast with packed zeros', 'gemv_fast', replaced('qzeros', 'I32', 8, 128), 'qzeros', /it is I32, expected F16/],
  [
    'gemv_fast with fewer scales',
    'gemv_fast',
    replaced('scales', 'F16', 2, 128),
    'scales',
    /\[2,128\], expected \[8,128\]/,
  ],
  ['a shift that is no number', 'gemv_fast', poisoned('qzeros', 3, NaN), 'qzeros', /is NaN/],
  ['a shift behind the last group', 'gemv_fast', poisoned('qzeros', 1000, 1), 'qzeros', /behind the last group/],
]

describe('tensors', () => {
  test.each(CASES)('%s', async (_name, version, change, part, problem) => {
    const error = await refusal(version, change)
    expect(error.code).toBe('file')
    expect(error.message).toMatch(problem)
    if (part) expect(error.message).toContain(`${MODULE}.${part}`)
    expect(error.hint).toBeDefined()
  })

  test('the layouts of gemm and gemv are told by their shapes, whatever the config claims', async () => {
    const error = await refusal('gemm', replaced('qweight', 'I32', 3, 3), { version: 'gemv' })
    expect(error.message).toContain('its shape is [3,3]')
  })
})

const nothing = () => {}
const groupSize = (size: number) => ({ group_size: size })

describe('quantization_config', () => {
  test.each<[string, Record<string, unknown>, string]>([
    ['a width of 5', { bits: 5 }, 'bits'],
    ['a width that is text', { bits: 'four' }, 'bits'],
    ['a group of 0', groupSize(0), 'group_size'],
    ['a group of 2^53', groupSize(2 ** 53), 'group_size'],
    ['half a group', groupSize(32.5), 'group_size'],
    ['a group below -1', groupSize(-32), 'group_size'],
    ['zero_point as text', { zero_point: 'yes' }, 'zero_point'],
    ['a version of the future', { version: 'gemm2' }, 'version'],
    ['a version that is a list', { version: ['gemm'] }, 'version'],
    ['3 bits in gemv', { bits: 3, version: 'gemv' }, 'bits'],
    ['a skip list that is text', { modules_to_not_convert: 'lm_head' }, 'modules_to_not_convert'],
    ['a skip list of numbers', { modules_to_not_convert: [1] }, 'modules_to_not_convert'],
  ])('%s', async (_name, config, key) => {
    const error = await refusal('gemm', nothing, config)
    expect(error.code).toBe('config')
    expect(error.message).toContain(`"${key}" is`)
    expect(error.fields).toMatchObject({ key })
  })

  test('marlin is named as what is not supported', async () => {
    expect(await refusal('gemm', nothing, { version: 'marlin' })).toMatchObject({ code: 'unsupported' })
  })

  test.each<[string, Record<string, unknown>, RegExp]>([
    ['another group size than the scales have', groupSize(64), /in groups of 64 gemm has/],
    ['a group size that divides no row', groupSize(48), /no multiple of the group size 48/],
    ['whole rows', groupSize(-1), /in groups of \d+ gemm has/],
    ['another width than the words have', { bits: 8 }, /at 8 bits in groups of 32 gemm has \[\d+,\d+\]/],
    ['a narrower width', { bits: 2 }, /at 2 bits/],
  ])('%s', async (_name, config, problem) => {
    const error = await refusal('gemm', nothing, config)
    expect(error.code).toBe('file')
    expect(error.message).toMatch(problem)
  })
})

describe('quant_config.json', () => {
  const alone = (text: string) => refusal('gemm', nothing, { config: null }, { 'quant_config.json': text })

  test('a lie about the group size', async () => {
    const error = await alone('{"zero_point": true, "q_group_size": 64, "w_bit": 4, "version": "GEMM"}')
    expect(error.message).toMatch(/in groups of 64 gemm has/)
  })

  test.each([
    ['no JSON', 'w_bit: 4', 'file'],
    ['a list', '[4]', 'file'],
    ['a width of 16', '{"w_bit": 16, "q_group_size": 32}', 'config'],
    ['a version that nobody knows', '{"w_bit": 4, "q_group_size": 32, "version": "x"}', 'config'],
  ])('%s', async (_name, text, code) => {
    expect(await alone(text)).toMatchObject({ code })
  })
})
