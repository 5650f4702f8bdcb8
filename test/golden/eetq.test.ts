// A whole checkpoint against EETQ through transformers 5.23: quantising the float base gives its files byte for byte, logits agree on every
// device, and models of other dtypes are cast to float16.
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { rowsOf } from '../../src/backends/batch.ts'
import { openBackend } from '../../src/backends/index.ts'
import { localFiles } from '../../src/checkpoint/node/files.ts'
import { outputStore } from '../../src/checkpoint/node/output.ts'
import { openCheckpoint } from '../../src/checkpoint/open.ts'
import { rawTensor } from '../../src/core/dtypes.ts'
import { castTensor, toFloat32 } from '../../src/core/half.ts'
import { eetq } from '../../src/methods/eetq/index.ts'
import type { Method } from '../../src/methods/types.ts'
import { dequantizedSource } from '../../src/models/dequantized.ts'
import { type ModelSource, modelSource } from '../../src/models/source.ts'
import { quantizeModel } from '../../src/quantize/quantize.ts'
import { decode, denseWeight } from '../../src/weights/weight.ts'
import { DOORS } from '../support/doors.ts'
import { fixture, fixtureTensors } from '../support/fixtures.ts'
import { memoryFiles } from '../support/memory-files.ts'
import { safetensorsBytes } from '../support/model-files.ts'
import { largestDifference } from '../support/tensors.ts'

const method = eetq as unknown as Method
const temporary = await mkdtemp(join(tmpdir(), 'fewbit-eetq-'))
const opened: ModelSource[] = []
afterAll(async () => {
  for (const source of opened) await source.checkpoint.close()
  await rm(temporary, { recursive: true, force: true })
})

async function open(folder: string): Promise<ModelSource> {
  const source = await modelSource(await openCheckpoint(await localFiles(folder)))
  opened.push(source)
  return source
}

test.each([['TypeScript', undefined] as const, ...DOORS])(
  '%s: the base quantised is the checkpoint, every file byte for byte',
  async (name, kernels) => {
    const out = join(temporary, name)
    const config = method.parseConfig(method.fromFlags({}))
    const result = await quantizeModel(
      await open(fixture('eetq/base')),
      method,
      config,
      await outputStore(out, { force: false }),
      {
        kernels,
      },
    )
    expect([result.quantized, result.warnings]).toEqual([14, []])
    for (const file of ['model.safetensors', 'config.json', 'generation_config.json'])
      expect(await readFile(join(out, file)), file).toEqual(await readFile(join(fixture('eetq/checkpoint'), file)))
  },
)

const io = await fixtureTensors('eetq/model_io.safetensors')
const inputIds = Array.from(new BigInt64Array(io.get('input_ids')!.data.slice().buffer), Number)
const [batch, length] = io.get('input_ids')!.shape

async function logitsOf(source: ModelSource, device: string): Promise<Float32Array> {
  const backend = await openBackend(device)
  const executable = await backend.compile(source.graph, source.load, { precision: 'exact', threads: 1 })
  const parts: Float32Array[] = []
  for (let b = 0; b < batch; b++)
    parts.push((await executable.run(rowsOf(inputIds.slice(b * length, (b + 1) * length), 0, 'all', b))).slice())
  executable.dispose()
  return Float32Array.from(parts.flatMap((part) => [...part]))
}

function deviation(values: Float32Array): number {
  const mean = values.reduce((a, b) => a + b, 0) / values.length
  return Math.sqrt(values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / values.length)
}

test.each(['reference', 'cpu', 'wasm'])('%s: logits within 2%% of their deviation', async (device) => {
  const expected = toFloat32(io.get('logits_f16')!)
  const actual = await logitsOf(await open(fixture('eetq/checkpoint')), device)
  // float16 activations and a float16 product for each weight there, float32 here
  expect(largestDifference(actual, expected).difference).toBeLessThan(0.02 * deviation(expected))
})

test('restored to float16 as the reference restores, logits are those of its weights', async () => {
  const source = await dequantizedSource(await open(fixture('eetq/checkpoint')))
  const actual = await logitsOf(source, 'reference')
  expect(largestDifference(actual, toFloat32(io.get('logits_dequant_f32')!)).difference).toBeLessThan(1e-4)
})

test('an adapter of PEFT on the stored base: the logits are the reference ones', async () => {
  const adapter = await fixtureTensors('eetq/adapter/adapter_model.safetensors')
  const { r, lora_alpha } = JSON.parse(await readFile(fixture('eetq/adapter/adapter_config.json'), 'utf8'))
  const source = await open(fixture('eetq/checkpoint'))
  let adapted = 0
  const load = async (index: number) => {
    const weight = await source.load(index)
    const name = `base_model.model.${source.parameters[index].name.replace('.weight', '')}`
    const [a, b] = ['A', 'B'].map((side) => adapter.get(`${name}.lora_${side}.weight`))
    if (!a || !b) return weight
    adapted++
    // y = W x + alpha / r * B (A x): the sum of both weights.
    const [n, k] = weight.shape
    const [down, up] = [toFloat32(a), toFloat32(b)]
    const values = decode(weight).map((w, i) => {
      let sum = 0
      for (let j = 0; j < r; j++) sum += up[Math.floor(i / k) * r + j] * down[j * k + (i % k)]
      return w + (lora_alpha / r) * sum
    })
    return denseWeight(rawTensor('F32', [n, k], values))
  }
  const expected = toFloat32(io.get('logits_lora_f16')!)
  const actual = await logitsOf({ ...source, load }, 'reference')
  expect(adapted).toBe(6)
  expect(largestDifference(actual, expected).difference).toBeLessThan(0.02 * deviation(expected))
  expect(largestDifference(actual, toFloat32(io.get('logits_f16')!)).difference).toBeGreaterThan(
    0.1 * deviation(expected),
  )
})

test('the gradient of an input is that of the restored weight', async () => {
  const source = await open(fixture('eetq/checkpoint'))
  const index = source.parameters.findIndex((p) => p.name === 'model.layers.0.mlp.gate_proj.weight')
  const { values } = (await (await dequantizedSource(source)).load(index)).parts
  const [n, k] = values.shape
  const w = toFloat32(values)
  const [given, expected] = [toFloat32(io.get('grad.out')!), toFloat32(io.get('grad.in')!)]
  const largest = expected.reduce((m, v) => Math.max(m, Math.abs(v)), 0)
  const actual = expected.map((_, i) => {
    let sum = 0
    for (let j = 0; j < n; j++) sum += given[Math.floor(i / k) * n + j] * w[j * k + (i % k)]
    return sum
  })
  expect(largestDifference(actual, expected).difference).toBeLessThan(2e-3 * largest)
})

/** The base in another dtype, one weight of it scaled. */
async function baseAs(dtype: 'bfloat16' | 'float32', factor = 1) {
  const tensors = new Map(
    [...(await fixtureTensors('eetq/base/model.safetensors'))].map(([name, tensor]) => {
      const values = toFloat32(tensor).map((v) => (name.includes('layers.1.mlp.up_proj') ? v * factor : v))
      return [name, castTensor(name, rawTensor('F32', tensor.shape, values), dtype === 'float32' ? 'F32' : 'BF16')]
    }),
  )
  const config = await readFile(join(fixture('eetq/base'), 'config.json'), 'utf8')
  return modelSource(
    await openCheckpoint(
      memoryFiles({
        'config.json': config.replace('"dtype": "float16"', `"dtype": "${dtype}"`),
        'model.safetensors': safetensorsBytes(tensors),
      }),
    ),
  )
}

test('a float32 model becomes a float16 one, with a warning', async () => {
  const out = join(temporary, 'cast')
  const config = method.parseConfig(method.fromFlags({}))
  const result = await quantizeModel(await baseAs('float32'), method, config, await outputStore(out, { force: false }))
  expect(result.warnings).toEqual(['eetq makes float16 models: the floats of this float32 model are cast'])
  const { dtype } = JSON.parse(await readFile(join(out, 'config.json'), 'utf8'))
  expect(dtype).toBe('float16')
  const weights = await readFile(join(out, 'model.safetensors'))
  expect(weights).toEqual(await readFile(join(fixture('eetq/checkpoint'), 'model.safetensors')))
})

test('another dtype is not followed, and said so', async () => {
  const config = method.parseConfig(method.fromFlags({}))
  const store = await outputStore(join(temporary, 'asked'), { force: false })
  const result = await quantizeModel(await open(fixture('eetq/base')), method, config, store, { dtype: 'BF16' })
  expect(result.warnings).toEqual(['eetq makes float16 models: the dtype bfloat16 is not followed'])
})

test('a weight beyond float16 is refused by name, before anything stands under the final name', async () => {
  const config = method.parseConfig(method.fromFlags({}))
  const store = await outputStore(join(temporary, 'overflow'), { force: false })
  const attempt = quantizeModel(await baseAs('bfloat16', 1e8), method, config, store)
  await expect(attempt).rejects.toMatchObject({
    code: 'weight',
    message: expect.stringMatching(
      /Cannot cast "model.layers.1.mlp.up_proj.weight" from bfloat16 to float16: element \d+ is .*65504/,
    ),
  })
  await expect(readFile(join(temporary, 'overflow', 'config.json'))).rejects.toThrow()
})
