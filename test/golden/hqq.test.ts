// Whole checkpoints against hqq 0.2.8 through transformers 4.57.3: quantising the float base gives their files byte for byte, reading and
// writing is the identity, and logits agree.
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { rowsOf } from '../../src/backends/batch.ts'
import { openBackend } from '../../src/backends/index.ts'
import { localFiles } from '../../src/checkpoint/node/files.ts'
import { outputStore } from '../../src/checkpoint/node/output.ts'
import { openCheckpoint } from '../../src/checkpoint/open.ts'
import { safetensorsHeader, safetensorsOrder } from '../../src/checkpoint/safetensors.ts'
import { type DType, type FloatDType, TORCH_DTYPES } from '../../src/core/dtypes.ts'
import { fromFloat32, toFloat32 } from '../../src/core/half.ts'
import { type JsonObject, parseJsonObject } from '../../src/core/json.ts'
import { hqq } from '../../src/methods/hqq/index.ts'
import type { Method } from '../../src/methods/types.ts'
import { modelSource } from '../../src/models/source.ts'
import { quantizeModel } from '../../src/quantize/quantize.ts'
import { fixture, fixtureTensors } from '../support/fixtures.ts'
import { memoryFiles } from '../support/memory-files.ts'
import { largestDifference } from '../support/tensors.ts'

const method = hqq as unknown as Method
const folder = (name: string) => fixture(`hqq/llama_${name}`)
const temporary = await mkdtemp(join(tmpdir(), 'fewbit-hqq-'))
afterAll(() => rm(temporary, { recursive: true, force: true }))

const CHECKPOINTS = [
  ['b8', 'float32'],
  ['b4', 'float32'],
  ['b3', 'float32'],
  ['b2', 'float32'],
  ['b1', 'float32'],
  ['b4_axis0_f16', 'float16'],
  ['b2_g32_bf16', 'bfloat16'],
  ['dynamic_bf16', 'bfloat16'],
] as const

async function configOf(name: string): Promise<JsonObject> {
  const json = parseJsonObject(await readFile(join(folder(name), 'config.json'), 'utf8'), 'config.json')
  return json.quantization_config as JsonObject
}

/** The float base with all tensors in `dtype`, as the reference loads it. */
async function baseIn(dtype: string) {
  const tensors = [...(await fixtureTensors('hqq/llama_base/model.safetensors'))]
    .map(([name, tensor]) => {
      const to = TORCH_DTYPES[dtype] as FloatDType
      return { name, dtype: to as DType, shape: tensor.shape, data: fromFloat32(toFloat32(tensor), to) }
    })
    .sort(safetensorsOrder)
  const { header } = safetensorsHeader(tensors, new Map([['format', 'pt']]))
  const config = await readFile(join(folder('base'), 'config.json'), 'utf8')
  const files = memoryFiles({
    'config.json': config.replace('"dtype": "bfloat16"', `"dtype": "${dtype}"`),
    'model.safetensors': Buffer.concat([header, ...tensors.map((t) => t.data)]),
  })
  return modelSource(await openCheckpoint(files))
}

test.each(CHECKPOINTS)('%s is the base quantised in %s, every file byte for byte', async (name, dtype) => {
  const out = join(temporary, name)
  const config = method.parseConfig(await configOf(name))
  const result = await quantizeModel(await baseIn(dtype), method, config, await outputStore(out, { force: true }))
  expect(result.quantized).toBe(14)
  expect(result.warnings).toEqual([])
  const [actual, expected] = [
    await readFile(join(out, 'model.safetensors')),
    await readFile(join(folder(name), 'model.safetensors')),
  ]
  expect(actual.equals(expected)).toBe(true)
  expect(await readFile(join(out, 'config.json'), 'utf8')).toBe(
    await readFile(join(folder(name), 'config.json'), 'utf8'),
  )
})

test.each(CHECKPOINTS)('%s: reading every weight and writing it again gives its tensors', async (name) => {
  const tensors = await fixtureTensors(`hqq/llama_${name}/model.safetensors`)
  const reader = {
    config: hqq.parseConfig(await configOf(name)),
    has: (tensor: string) => tensors.has(tensor),
    dtypeOf: (tensor: string) => tensors.get(tensor)?.dtype,
    shapeOf: (tensor: string) => tensors.get(tensor)?.shape,
    read: async (tensor: string) => tensors.get(tensor)!,
    warn: (message: string) => expect.fail(message),
  }
  const base = await fixtureTensors('hqq/llama_base/model.safetensors')
  const written: string[] = []
  for (const [weightName, { shape }] of base) {
    if (!weightName.includes('_proj')) continue
    expect(hqq.stored.isStored(weightName, reader)).toBe(true)
    const weight = await hqq.stored.read(weightName, shape, reader)
    const settings = await hqq.stored.readSettings!(weightName, reader)
    for (const { name: tensorName, tensor } of await hqq.stored.write(weightName, weight, settings)) {
      const original = tensors.get(tensorName)!
      expect([tensorName, tensor.dtype, tensor.shape]).toEqual([tensorName, original.dtype, original.shape])
      expect(Buffer.from(tensor.data).equals(original.data), tensorName).toBe(true)
      written.push(tensorName)
    }
  }
  expect(written.sort()).toEqual([...tensors.keys()].filter((t) => t.includes('_proj')).sort())
})

/**
 * Largest distance of logits of order 1 to 5. float32: sums in another order. float16 and bfloat16: the reference's activations and
 * restored weights are rounded to them.
 */
const GATES = { float32: 1e-4, float16: 2e-2, bfloat16: 1.5e-1 }
const logits = await fixtureTensors('hqq/llama_logits.safetensors')
const ids = Array.from(new BigInt64Array(logits.get('input_ids')!.data.slice().buffer), Number)

test.each(CHECKPOINTS)('%s: the logits are the reference ones', async (name, dtype) => {
  const source = await modelSource(await openCheckpoint(await localFiles(folder(name))))
  const backend = await openBackend('reference')
  const model = await backend.compile(source.graph, source.load, { precision: 'exact', threads: 1 })
  const actual = await model.run(rowsOf(ids, 0, 'all'))
  await source.checkpoint.close()
  expect(source.warnings).toEqual([])
  expect(largestDifference(actual, toFloat32(logits.get(name)!)).difference).toBeLessThan(GATES[dtype])
})

test("hqq's own pickle is read as data and gives the reference's logits", async () => {
  const native = await fixtureTensors('hqq/native_logits.safetensors')
  const source = await modelSource(await openCheckpoint(await localFiles(fixture('hqq/native'))))
  const backend = await openBackend('reference')
  const model = await backend.compile(source.graph, source.load, { precision: 'exact', threads: 1 })
  const input = Array.from(new BigInt64Array(native.get('input_ids')!.data.slice().buffer), Number)
  const actual = await model.run(rowsOf(input, 0, 'all'))
  await source.checkpoint.close()
  expect(largestDifference(actual, toFloat32(native.get('logits')!)).difference).toBeLessThan(GATES.float32)
})
