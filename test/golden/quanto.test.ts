// Whole checkpoints against optimum-quanto 0.2.7: quantising the float base gives their files byte for byte, reading and writing is the
// identity, logits agree, and what transformers quantises while loading is the same.
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { rowsOf } from '../../src/backends/batch.ts'
import { openBackend } from '../../src/backends/index.ts'
import { localFiles } from '../../src/checkpoint/node/files.ts'
import { outputStore } from '../../src/checkpoint/node/output.ts'
import { openCheckpoint } from '../../src/checkpoint/open.ts'
import { type FloatDType, TORCH_DTYPES } from '../../src/core/dtypes.ts'
import { toFloat32 } from '../../src/core/half.ts'
import type { QuantizerKernels } from '../../src/core/kernels.ts'
import { quanto } from '../../src/methods/quanto/index.ts'
import type { Method, MethodFlags } from '../../src/methods/types.ts'
import { castSource } from '../../src/models/cast.ts'
import { type ModelSource, modelInfo, modelSource, quantizedOnTheFly, tensorInfos } from '../../src/models/source.ts'
import { quantizeModel } from '../../src/quantize/quantize.ts'
import { DOORS } from '../support/doors.ts'
import { fixture, fixtureTensors } from '../support/fixtures.ts'
import { largestDifference } from '../support/tensors.ts'

const method = quanto as unknown as Method
const folder = (name: string) => fixture(`quanto/llama_${name}`)
const temporary = await mkdtemp(join(tmpdir(), 'fewbit-quanto-'))
const opened: ModelSource[] = []
afterAll(async () => {
  for (const source of opened) await source.checkpoint.close()
  await rm(temporary, { recursive: true, force: true })
})

async function open(path: string): Promise<ModelSource> {
  const source = await modelSource(await openCheckpoint(await localFiles(path)))
  opened.push(source)
  return source
}

// Folder, dtype, what was asked for. The head of `qint8` was tied and is not any more.
const CHECKPOINTS: readonly (readonly [string, string, MethodFlags])[] = [
  ['qint2', 'float32', { bits: 2, exclude: 'lm_head' }],
  ['qint4', 'float32', { bits: 4, exclude: 'lm_head' }],
  ['qint8', 'float32', { bits: 8, exclude: [] }],
  ['qfloat8_e4m3fn', 'float32', { type: 'float8', exclude: 'lm_head' }],
  ['qint4_bf16', 'bfloat16', { bits: 4, exclude: 'lm_head', tinygemm: true }],
  ['qint4_hqq_f16', 'float16', { bits: 4, exclude: 'lm_head', optimizer: 'hqq' }],
]

async function quantized(name: string, dtype: string, flags: MethodFlags, kernels?: QuantizerKernels) {
  const out = join(temporary, `${name}-${kernels ? DOORS.findIndex(([, k]) => k === kernels) : 'ts'}`)
  const config = method.parseConfig(method.fromFlags(flags))
  const store = await outputStore(out, { force: true })
  const result = await quantizeModel(await open(folder('base')), method, config, store, {
    dtype: TORCH_DTYPES[dtype] as FloatDType,
    kernels,
  })
  return { out, result }
}

/** A half-precision sum in another order: the last bit of a few shifts, and codes that hang on it. */
const HALF_SUMS = 'qint4_hqq_f16'

test.each(CHECKPOINTS)('%s is the base quantised in %s, every file byte for byte', async (name, dtype, flags) => {
  for (const kernels of [undefined, ...DOORS.map(([, k]) => k)]) {
    const { out, result } = await quantized(name, dtype, flags, kernels)
    expect(result.quantized).toBe(name === 'qint8' ? 15 : 14)
    for (const file of ['config.json', 'quanto_qmap.json'])
      expect(await readFile(join(out, file), 'utf8'), file).toBe(await readFile(join(folder(name), file), 'utf8'))
    const [actual, expected] = [
      await readFile(join(out, 'model.safetensors')),
      await readFile(join(folder(name), 'model.safetensors')),
    ]
    const differing = actual.reduce((count, byte, i) => count + Number(byte !== expected[i]), 0)
    expect([actual.length, differing <= (name === HALF_SUMS ? 8 : 0)], `${differing} bytes differ`).toEqual([
      expected.length,
      true,
    ])
  }
})

test('a tied head that nothing excludes is quantised and untied, with a warning', async () => {
  const { out, result } = await quantized('qint8', 'float32', { bits: 8, exclude: [] })
  expect(result.warnings).toEqual([
    'lm_head was tied to the embedding: it is quantised and stored on its own',
    'lm_head is quantised: no pattern excludes it',
  ])
  expect(JSON.parse(await readFile(join(out, 'config.json'), 'utf8')).tie_word_embeddings).toBe(false)
  const source = await open(out)
  expect(source.config.tied).toBe(false)
})

test.each([...CHECKPOINTS.map(([name]) => name), 'qint4_act'])(
  '%s: reading every weight and writing it again gives its tensors',
  async (name) => {
    const source = await open(folder(name))
    const { checkpoint, parameters } = source
    const written: string[] = []
    const reader = {
      config: source.methodConfig as never,
      has: (tensor: string) => checkpoint.tensors.has(tensor),
      dtypeOf: (tensor: string) => checkpoint.tensors.get(tensor)?.dtype,
      shapeOf: (tensor: string) => checkpoint.tensors.get(tensor)?.shape,
      read: async (tensor: string) => {
        const { dtype, shape } = checkpoint.tensors.get(tensor)!
        return { dtype: dtype as FloatDType, shape, data: await checkpoint.read(checkpoint.tensors.get(tensor)!) }
      },
      warn: (message: string) => expect.fail(message),
    }
    for (const { name: weightName, parameter, quantized: isQuantized } of parameters) {
      if (!isQuantized) continue
      const weight = await quanto.stored.read(weightName, parameter.shape, reader)
      const settings = await quanto.stored.readSettings!(weightName, reader)
      for (const { name: tensorName, tensor } of await quanto.stored.write(weightName, weight, settings)) {
        const original = await reader.read(tensorName)
        expect([tensorName, tensor.dtype, tensor.shape]).toEqual([tensorName, original.dtype, original.shape])
        expect(Buffer.from(tensor.data).equals(original.data), tensorName).toBe(true)
        written.push(tensorName)
      }
    }
    const stored = [...checkpoint.tensors.keys()].filter((t) => /\._|put_scale$/.test(t))
    expect(written.sort()).toEqual(stored.sort())
    expect(source.warnings).toEqual([])
  },
)

const logits = await fixtureTensors('quanto/llama_logits.safetensors')
const ids = Array.from(new BigInt64Array(logits.get('input_ids')!.data.slice().buffer), Number)

async function logitsOf(source: ModelSource, device: string): Promise<Float32Array> {
  const backend = await openBackend(device)
  const executable = await backend.compile(source.graph, source.load, { precision: 'exact', threads: 1 })
  const out = (await executable.run(rowsOf(ids, 0, 'all'))).slice()
  executable.dispose()
  return out
}

/**
 * Largest distance of logits of order 1 to 8. float32: sums in another order. float16 and bfloat16: the reference's activations and
 * restored weights are rounded to them.
 */
const GATES: Readonly<Record<string, number>> = { float32: 1e-4, float16: 2e-2, bfloat16: 1.5e-1 }

/** Some activation codes lie so near a boundary that float32 sums in another order round them to the other side. */
const ACTIVATION_STEPS = 5e-3

test.each(CHECKPOINTS)('%s: the logits are the reference ones on every device', async (name, dtype) => {
  const source = await open(folder(name))
  for (const device of ['reference', 'cpu', 'wasm']) {
    const { difference } = largestDifference(await logitsOf(source, device), toFloat32(logits.get(name)!))
    expect(difference, device).toBeLessThan(GATES[dtype])
  }
})

test('qint4_act: int8 activations by their calibrated scales, outputs as calibration left them, on every device', async () => {
  const source = await open(folder('qint4_act'))
  for (const device of ['reference', 'cpu', 'wasm']) {
    const { difference } = largestDifference(await logitsOf(source, device), toFloat32(logits.get('qint4_act')!))
    expect(difference, device).toBeLessThan(ACTIVATION_STEPS)
  }
  expect(source.warnings).toEqual([])
})

test.each(['int8', 'int4', 'int2', 'float8'])('%s: as transformers quantises while loading', async (type) => {
  const base = await castSource(await open(folder('base')), 'F32')
  const config = method.parseConfig({
    quant_method: 'quanto',
    weights: type,
    activations: null,
    modules_to_not_convert: null,
  })
  const { infos } = tensorInfos(base)
  const plan = method.plan(infos, modelInfo(base), config)
  const actual = await logitsOf(quantizedOnTheFly(base, method, plan), 'reference')
  expect(largestDifference(actual, toFloat32(logits.get(`onload_${type}`)!)).difference).toBeLessThan(GATES.float32)
})
