// Whole checkpoints against bitsandbytes 0.50.2 through transformers: quantising the float bases gives their files byte for byte,
// reading and writing is the identity, and logits agree.
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { rowsOf } from '../../src/backends/batch.ts'
import { openBackend } from '../../src/backends/index.ts'
import { openReference } from '../../src/backends/reference/index.ts'
import { BITSANDBYTES_CPU_OUTPUT_SCALE } from '../../src/backends/reference/int8-linear.ts'
import type { Backend } from '../../src/backends/types.ts'
import { localFiles } from '../../src/checkpoint/node/files.ts'
import { outputStore } from '../../src/checkpoint/node/output.ts'
import { openCheckpoint } from '../../src/checkpoint/open.ts'
import type { DType } from '../../src/core/dtypes.ts'
import { elementCount } from '../../src/core/dtypes.ts'
import { toFloat32 } from '../../src/core/half.ts'
import { type JsonObject, parseJsonObject } from '../../src/core/json.ts'
import { bitsandbytes } from '../../src/methods/bitsandbytes/index.ts'
import type { Method } from '../../src/methods/types.ts'
import { type ModelSource, modelInfo, modelSource, quantizedOnTheFly, tensorInfos } from '../../src/models/source.ts'
import { quantizeModel } from '../../src/quantize/quantize.ts'
import { fixture, fixtureJson, fixtureTensors } from '../support/fixtures.ts'

const method = bitsandbytes as unknown as Method
const folder = (name: string) => fixture(`bitsandbytes/${name}`)
const temporary = await mkdtemp(join(tmpdir(), 'fewbit-bnb-'))
afterAll(async () => {
  for (const source of opened) await source.checkpoint.close()
  await rm(temporary, { recursive: true, force: true })
})

const opened: ModelSource[] = []

async function open(name: string): Promise<ModelSource> {
  const source = await modelSource(await openCheckpoint(await localFiles(folder(name))))
  opened.push(source)
  return source
}

async function configOf(name: string): Promise<JsonObject> {
  const json = parseJsonObject(await readFile(join(folder(name), 'config.json'), 'utf8'), 'config.json')
  return json.quantization_config as JsonObject
}

const CHECKPOINTS = [
  ['nf4-dq', 'base'],
  ['fp4', 'base'],
  ['int8', 'base'],
  ['nf4-tied-bf16-storage', 'base-tied-bf16'],
] as const

test.each(CHECKPOINTS)('%s is %s quantised, every file byte for byte', async (name, base) => {
  const out = join(temporary, name)
  const config = method.parseConfig(await configOf(name))
  const result = await quantizeModel(await open(base), method, config, await outputStore(out, { force: true }))
  expect(result.quantized).toBe(14)
  for (const file of ['model.safetensors', 'config.json', 'generation_config.json'])
    expect(await readFile(join(out, file)), file).toEqual(await readFile(join(folder(name), file)))
})

test.each(CHECKPOINTS)('%s: reading every weight and writing it again gives its tensors', async (name) => {
  const { checkpoint, warnings } = await open(name)
  const config = bitsandbytes.parseConfig(await configOf(name))
  const reader = {
    config,
    has: (tensor: string) => checkpoint.tensors.has(tensor),
    dtypeOf: (tensor: string) => checkpoint.tensors.get(tensor)?.dtype,
    shapeOf: (tensor: string) => checkpoint.tensors.get(tensor)?.shape,
    read: async (tensor: string) => {
      const { dtype, shape } = checkpoint.tensors.get(tensor)!
      return { dtype: dtype as DType, shape, data: await checkpoint.read(checkpoint.tensors.get(tensor)!) }
    },
    warn: (message: string) => expect.fail(message),
  }
  const written: string[] = []
  for (const { huggingFace, shape } of linears(
    await open(name === 'nf4-tied-bf16-storage' ? 'base-tied-bf16' : 'base'),
  )) {
    expect(bitsandbytes.stored.isStored(huggingFace, reader)).toBe(true)
    const weight = await bitsandbytes.stored.read(huggingFace, shape, reader)
    for (const { name: tensorName, tensor } of await bitsandbytes.stored.write(huggingFace, weight, config.settings)) {
      const original = await reader.read(tensorName)
      expect({ tensorName, dtype: tensor.dtype, shape: tensor.shape }).toEqual({
        tensorName,
        dtype: original.dtype,
        shape: original.shape,
      })
      expect(Buffer.from(tensor.data).equals(original.data), tensorName).toBe(true)
      written.push(tensorName)
    }
  }
  const stored = [...checkpoint.tensors.keys()].filter((t) => t.includes('_proj'))
  expect(written.sort()).toEqual(stored.sort())
  expect(warnings).toEqual([])
})

/** The quantised linears of a model, as its float base has them. */
function linears(base: ModelSource): { huggingFace: string; shape: readonly number[] }[] {
  return [...base.checkpoint.tensors.values()]
    .filter((t) => t.name.includes('_proj'))
    .map((t) => ({ huggingFace: t.name, shape: t.shape }))
}

const logits = await fixtureTensors('bitsandbytes/logits.safetensors')
const inputIds = new BigInt64Array(logits.get('input_ids')!.data.slice().buffer)

/** Logits [2, 12, V] of the reference backend for the fixture's ids, both sequences in one batch as the reference runs them. */
async function logitsOf(source: ModelSource, backend: Backend): Promise<Float32Array> {
  const executable = await backend.compile(source.graph, source.load, { precision: 'exact', threads: 1 })
  const [batch, length] = logits.get('input_ids')!.shape
  const parts = Array.from({ length: batch }, (_, b) =>
    rowsOf(Array.from(inputIds.subarray(b * length, (b + 1) * length), Number), 0, 'all', b),
  )
  const join = (field: 'ids' | 'positions' | 'slots') => Int32Array.from(parts.flatMap((p) => [...p[field]]))
  const out = await executable.run({
    ids: join('ids'),
    positions: join('positions'),
    slots: join('slots'),
    outputs: Int32Array.from({ length: batch * length }, (_, i) => i),
    phase: 'prefill',
  })
  executable.dispose()
  return out
}

/** Largest distance to the fixture's logits. */
async function distance(source: ModelSource, name: string, backend: Backend = openReference()): Promise<number> {
  const expected = toFloat32(logits.get(`${name}.logits`)!)
  const actual = await logitsOf(source, backend)
  expect(actual.length).toBe(elementCount(logits.get(`${name}.logits`)!.shape))
  return expected.reduce((max, v, i) => Math.max(max, Math.abs(v - actual[i])), 0)
}

/**
 * - float32 throughout;
 * - bf16: the reference's activations are bf16;
 * - codeSteps: with the exact constant instead of the reference's misprint (1.8e-5 larger), some of the 25,000 activation codes
 *   round to the other side; one step is 1/127 of a row's largest activation.
 */
const GATES = { float32: 2e-5, bfloat16: 6e-2, codeSteps: 6e-2 }

test.each([
  ['base', GATES.float32],
  ['base-tied-bf16', GATES.bfloat16],
  ['nf4-dq', GATES.float32],
  ['fp4', GATES.float32],
  ['int8', GATES.codeSteps],
  ['nf4-tied-bf16-storage', GATES.bfloat16],
])('%s: logits within %d', async (name, gate) => {
  expect(await distance(await open(name), name)).toBeLessThan(gate)
})

/** The float base, quantised while it is loaded with the config of a case that has no folder. */
async function onTheFly(name: string): Promise<ModelSource> {
  const { checkpoints } = await fixtureJson<{ checkpoints: { name: string; quantization_config: object }[] }>(
    'bitsandbytes/logits.json',
  )
  const stored = checkpoints.find((c) => c.name === name)!.quantization_config
  const base = await open('base')
  const { infos } = tensorInfos(base)
  const config = method.parseConfig(parseJsonObject(JSON.stringify(stored), name))
  return quantizedOnTheFly(base, method, method.plan(infos, modelInfo(base), config))
}

test.each([
  ['int8-t1', GATES.codeSteps],
  ['fp4-skip', GATES.float32],
])('%s, quantised on the fly: logits within %d', async (name, gate) => {
  expect(await distance(await onTheFly(name), name)).toBeLessThan(gate)
})

test('LLM.int8 with the constant of the reference: logits as exact as float32, with and without outliers', async () => {
  const backend = openReference({ int8OutputScale: BITSANDBYTES_CPU_OUTPUT_SCALE })
  expect(await distance(await open('int8'), 'int8', backend)).toBeLessThan(GATES.float32)
  expect(await distance(await onTheFly('int8-t1'), 'int8-t1', backend)).toBeLessThan(GATES.float32)
})

test.each(['cpu', 'wasm'])('%s: logits of every checkpoint within the gates', async (device) => {
  const backend = await openBackend(device)
  const within = {
    'nf4-dq': (await distance(await open('nf4-dq'), 'nf4-dq', backend)) < GATES.float32,
    fp4: (await distance(await open('fp4'), 'fp4', backend)) < GATES.float32,
    'fp4-skip': (await distance(await onTheFly('fp4-skip'), 'fp4-skip', backend)) < GATES.float32,
    int8: (await distance(await open('int8'), 'int8', backend)) < GATES.codeSteps,
    'int8-t1': (await distance(await onTheFly('int8-t1'), 'int8-t1', backend)) < GATES.codeSteps,
    'nf4-tied-bf16-storage':
      (await distance(await open('nf4-tied-bf16-storage'), 'nf4-tied-bf16-storage', backend)) < GATES.bfloat16,
  }
  expect(within).toEqual(Object.fromEntries(Object.keys(within).map((name) => [name, true])))
})
