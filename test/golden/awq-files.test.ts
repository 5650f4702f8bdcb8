// Forms of AWQ files other than AutoAWQ's present one: widths that gptqmodel added, llm-awq's state dictionaries, the old quant_config.json,
// and folders whose config is lost.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { localFiles } from '../../src/checkpoint/node/files.ts'
import { openCheckpoint } from '../../src/checkpoint/open.ts'
import { parseJsonObject } from '../../src/core/json.ts'
import { QuantizationConfig, quantizePretrained } from '../../src/index.ts'
import type { AwqSettings } from '../../src/methods/awq/config.ts'
import { awq } from '../../src/methods/awq/index.ts'
import { quantize } from '../../src/methods/awq/quantize.ts'
import { type ModelSource, modelSource } from '../../src/models/source.ts'
import { decode } from '../../src/weights/weight.ts'
import { DOORS } from '../support/doors.ts'
import { fixture } from '../support/fixtures.ts'
import { memoryFiles } from '../support/memory-files.ts'
import { seeded } from '../support/random.ts'
import { fixtureTensors } from '../support/tensors.ts'
import { expectSameBits } from '../support/tolerances.ts'

const widths = await fixtureTensors('awq/widths.safetensors')
const keys = [...widths.keys()].filter((key) => key.endsWith('.w')).map((key) => key.slice(0, -2))

describe.each([['TypeScript', undefined] as const, ...DOORS])('%s', (_door, kernels) => {
  test.each(keys)('codes, zeros and scales of %s', async (key) => {
    const [bits, mode, , group] = key.split(/[.g]+/)
    const w = widths.get(`${key}.w`)!
    const config = `{"bits": ${bits}, "group_size": ${group}, "zero_point": ${mode === 'zp'}}`
    const parsed = awq.parseConfig(parseJsonObject(config, 'test'))
    const settings: AwqSettings = { ...parsed, group: Number(group) }
    const tensor = { dtype: 'F16', shape: w.shape, data: w.data } as const
    const weight = await quantize({ name: 'l.weight', tensor, settings, kernels })
    const made = await awq.stored.write('l.weight', weight, settings, kernels)
    for (const { name, tensor: part } of made) {
      const expected = widths.get(`${key}.${name.slice(2)}`)!
      expect([name, part.dtype, part.shape]).toEqual([name, expected.dtype, expected.shape])
      expectSameBits(part.data, expected.data, name)
    }
    const byName = new Map(made.map(({ name, tensor: part }) => [name, part]))
    const again = await awq.stored.read('l.weight', w.shape, {
      config: parsed,
      has: (name) => byName.has(name),
      dtypeOf: (name) => byName.get(name)?.dtype,
      shapeOf: (name) => byName.get(name)?.shape,
      read: async (name) => byName.get(name)!,
      warn: () => {},
      kernels,
    })
    const restored = decode(again, 0, w.shape[0] * w.shape[1], 'F16')
    // Float32Array.from: -0 and 0 are one weight.
    expect(restored.map((v) => v + 0)).toEqual(
      widths
        .get(`${key}.restored`)!
        .floats()
        .map((v) => v + 0),
    )
  })
})

type Files = Record<string, Uint8Array | string>

const FOLDERS = {
  gemm: 'llama_g32_f32_gemm',
  gemv: 'qwen2_g64_bf16_gemv',
  gemv_fast: 'gemma_g128_f16_gemv_fast',
} as const

function filesOf(version: keyof typeof FOLDERS): { config: Record<string, unknown>; weights: Uint8Array } {
  const bytes = (name: string) => readFileSync(fixture(`awq/${FOLDERS[version]}/checkpoint/${name}`))
  return { config: JSON.parse(bytes('config.json').toString()), weights: new Uint8Array(bytes('model.safetensors')) }
}

const open = async (files: Files): Promise<ModelSource> => modelSource(await openCheckpoint(memoryFiles(files)))

/** All weights, decoded. */
async function valuesOf(source: ModelSource): Promise<Map<string, Float32Array>> {
  const values = new Map<string, Float32Array>()
  for (const [i, { parameter }] of source.parameters.entries()) {
    const weight = await source.load(i)
    values.set(
      parameter.path,
      decode(
        weight,
        0,
        weight.shape.reduce((a, b) => a * b, 1),
        'F32',
      ),
    )
  }
  return values
}

async function expectSameModel(files: Files, version: keyof typeof FOLDERS): Promise<ModelSource> {
  const { config, weights } = filesOf(version)
  const source = await open(files)
  expect(source.method?.name).toBe('awq')
  expect(await valuesOf(source)).toEqual(
    await valuesOf(await open({ 'config.json': JSON.stringify(config), 'model.safetensors': weights })),
  )
  return source
}

const without = ({ quantization_config: _, ...config }: Record<string, unknown>) => JSON.stringify(config)
const OLD = '{"zero_point": true, "q_group_size": 32, "w_bit": 4, "version": "GEMM"}'

test('a folder with the old quant_config.json', async () => {
  const { config, weights } = filesOf('gemm')
  const files = { 'config.json': without(config), 'quant_config.json': OLD, 'model.safetensors': weights }
  const { methodConfig } = await expectSameModel(files, 'gemm')
  expect(methodConfig).toMatchObject({ bits: 4, groupSize: 32, version: 'gemm' })
})

test('config.json wins over quant_config.json', async () => {
  const { config, weights } = filesOf('gemm')
  const files = { 'config.json': JSON.stringify(config), 'quant_config.json': OLD.replace('32', '64') }
  await expectSameModel({ ...files, 'model.safetensors': weights }, 'gemm')
})

test("a quant_config.json that is not AWQ's marks nothing", async () => {
  const config = readFileSync(fixture('transformers/models/llama/config.json'), 'utf8')
  const weights = new Uint8Array(readFileSync(fixture('transformers/models/llama/model.safetensors')))
  const source = await open({
    'config.json': config,
    'quant_config.json': '{"precision": "int8"}',
    'model.safetensors': weights,
  })
  expect(source.method).toBeUndefined()
})

test.each(['gemm', 'gemv', 'gemv_fast'] as const)('a %s folder that has lost its config', async (version) => {
  const { config, weights } = filesOf(version)
  const { methodConfig } = await expectSameModel(
    { 'config.json': without(config), 'model.safetensors': weights },
    version,
  )
  expect(methodConfig).toMatchObject({ version, groupSize: { gemm: 32, gemv: 64, gemv_fast: 128 }[version] })
})

const PT = new Uint8Array(readFileSync(fixture('awq/gemma-w4-g128-awq-v2.pt')))

test("llm-awq's state dictionary beside the config.json of the float model", async () => {
  const { config } = filesOf('gemv_fast')
  const source = await expectSameModel({ 'config.json': without(config), 'gemma-w4-g128-awq-v2.pt': PT }, 'gemv_fast')
  expect(source.methodConfig).toMatchObject({ version: 'llm-awq', groupSize: 128 })
})

describe("llm-awq's state dictionary as fewbit writes it", async () => {
  const folder = mkdtempSync(join(tmpdir(), 'fewbit-awq-pt-'))
  const base = fixture('awq/gemma_g128_f16_gemv_fast/base')
  const data = join(folder, 'data.json')
  const random = seeded(7)
  const ids = () => Array.from({ length: 16 }, () => Math.floor(random() * 200))
  writeFileSync(data, JSON.stringify(Array.from({ length: 8 }, ids)))
  const made = (out: string, version: string, force = false) =>
    quantizePretrained(base, join(folder, out), new QuantizationConfig('awq', { version, duoScaling: false }), {
      calibration: { file: data, length: 16 },
      force,
    })
  const name = 'gemma-w4-g128-awq-v2.pt'
  const { out } = await made(name, 'llm-awq')
  await made('folder', 'llm-awq')
  const stateDict = await openCheckpoint(await localFiles(out))
  const safetensors = await openCheckpoint(await localFiles(join(folder, 'folder')))
  afterAll(async () => {
    await stateDict.close()
    await safetensors.close()
    rmSync(folder, { recursive: true })
  })

  test('is one file at the path that was given', () => {
    expect(out).toBe(join(folder, name))
    expect(readdirSync(folder).sort()).toEqual(['data.json', 'folder', name])
    expect(stateDict).toMatchObject({ container: 'torch', config: null })
  })

  test('holds the tensors of the folder, and the tied head under its own name too', async () => {
    const tied = ['lm_head.weight', 'model.embed_tokens.weight'] as const
    expect([...stateDict.tensors.keys()].sort()).toEqual([...safetensors.tensors.keys(), tied[0]].sort())
    for (const { name: tensor, dtype, shape } of safetensors.tensors.values()) {
      const stored = stateDict.tensors.get(tensor)!
      expect([stored.dtype, stored.shape]).toEqual([dtype, shape])
      const expected = await safetensors.read(safetensors.tensors.get(tensor)!)
      expectSameBits(await stateDict.read(stored), expected, tensor)
    }
    expect(stateDict.tensors.get(tied[0])!.offset).toBe(stateDict.tensors.get(tied[1])!.offset)
  })

  test('is read beside the config.json of the float model', async () => {
    const config = readFileSync(join(base, 'config.json'), 'utf8')
    const beside = await open({ 'config.json': config, [name]: new Uint8Array(readFileSync(out)) })
    expect(beside.methodConfig).toMatchObject({ version: 'llm-awq', groupSize: 128 })
    expect(await valuesOf(beside)).toEqual(await valuesOf(await modelSource(safetensors)))
  })

  test('replaces what is there only with force, and ends in the same bytes', async () => {
    const bytes = readFileSync(out)
    await expect(made(name, 'llm-awq')).rejects.toThrow(/exists already/)
    await made(name, 'llm-awq', true)
    expectSameBits(readFileSync(out), bytes, name)
  })

  test("is no form of AutoAWQ's layouts or of a float model: refused with what is one", async () => {
    await expect(made('gemm.pt', 'gemm')).rejects.toMatchObject({
      message: expect.stringContaining('kept in a folder'),
      hint: expect.stringContaining('--type llm-awq'),
    })
  })
})

test("GPTQ's tensors of the same names are not taken for AWQ's", () => {
  const spec = (name: string, dtype: string, ...shape: number[]) =>
    [`a.${name}`, { name: `a.${name}`, dtype, shape }] as const
  const gptq = [spec('qweight', 'I32', 16, 96), spec('qzeros', 'I32', 4, 12), spec('scales', 'F16', 4, 96)]
  expect(awq.configOfTensors!(new Map(gptq))).toBeUndefined()
})
