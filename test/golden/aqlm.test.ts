// AQLM against aqlm 1.1.7: weights of every scheme bit for bit, products, and whole checkpoints through transformers 5.23.
import { readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { rowsOf } from '../../src/backends/batch.ts'
import { openBackend } from '../../src/backends/index.ts'
import { linear } from '../../src/backends/reference/ops.ts'
import { openCheckpoint } from '../../src/checkpoint/open.ts'
import { type FloatDType, type RawTensor, rawTensor } from '../../src/core/dtypes.ts'
import { fromFloat32, toFloat32 } from '../../src/core/half.ts'
import { fromPlain, type JsonObject } from '../../src/core/json.ts'
import { aqlm } from '../../src/methods/aqlm/index.ts'
import { skipEntry } from '../../src/methods/aqlm/plan.ts'
import { modelSource } from '../../src/models/source.ts'
import { decode, type QuantizedWeight } from '../../src/weights/weight.ts'
import { fixture, fixtureJson, fixtureTensors } from '../support/fixtures.ts'
import { memoryFiles } from '../support/memory-files.ts'
import { largestDifference } from '../support/tensors.ts'

interface Case {
  readonly name: string
  readonly out_features: number
  readonly in_features: number
  readonly num_codebooks: number
  readonly nbits_per_codebook: number
  readonly in_group_size: number
  readonly out_group_size: number
  readonly dtype: 'f32' | 'f16' | 'bf16'
}

const DTYPES: Readonly<Record<Case['dtype'], FloatDType>> = { f32: 'F32', f16: 'F16', bf16: 'BF16' }
const { cases } = await fixtureJson<{ cases: Case[] }>('aqlm/linears.json')
const linears = await fixtureTensors('aqlm/linears.safetensors')

/** A stored linear `prefix` as the layout's reader sees it. */
function readerOf(tensors: ReadonlyMap<string, RawTensor>, c: Omit<Case, 'name' | 'dtype'>, warnings: string[] = []) {
  const { num_codebooks, nbits_per_codebook, in_group_size, out_group_size } = c
  const config = fromPlain({ num_codebooks, nbits_per_codebook, in_group_size, out_group_size }) as JsonObject
  return {
    config: aqlm.parseConfig(config),
    has: (name: string) => tensors.has(name),
    dtypeOf: (name: string) => tensors.get(name)?.dtype,
    shapeOf: (name: string) => tensors.get(name)?.shape,
    read: async (name: string) => tensors.get(name)!,
    warn: (message: string) => void warnings.push(message),
  }
}

const read = (c: Case) => aqlm.stored.read(`${c.name}.weight`, [c.out_features, c.in_features], readerOf(linears, c))

/** Bit for bit, any NaN being as good as another. */
function expectValues(actual: Float32Array, expected: RawTensor): void {
  const bytes = fromFloat32(actual, expected.dtype as FloatDType)
  const [a, e] = [toFloat32(rawTensor(expected.dtype, expected.shape, bytes)), toFloat32(expected)]
  expect(a.length).toBe(e.length)
  const at = e.findIndex((value, i) => !Object.is(value, a[i]))
  expect(at < 0 ? undefined : `element ${at} is ${a[at]}, expected ${e[at]}`).toBeUndefined()
}

test.each(cases)('$name: the restored weight has the bits of the reference', async (c) => {
  const weight = await read(c)
  expectValues(decode(weight, 0, c.out_features * c.in_features, DTYPES[c.dtype]), linears.get(`${c.name}.w`)!)
})

test('1x16: all 65,536 entries of a codebook', async () => {
  const file = await fixtureTensors('aqlm/linear_1x16.safetensors')
  const tensors = new Map([...file].map(([name, tensor]) => [`layer.${name}`, tensor]))
  const w = file.get('w')!
  const [out_features, in_features] = w.shape
  const c = { num_codebooks: 1, nbits_per_codebook: 16, in_group_size: 8, out_group_size: 1, out_features, in_features }
  const weight = await aqlm.stored.read('layer.weight', w.shape, readerOf(tensors, c))
  expectValues(decode(weight, 0, out_features * in_features, 'F16'), w)
})

test.each(cases)('$name: reading and writing gives the tensors of the file', async (c) => {
  for (const { name, tensor } of await aqlm.stored.write(`${c.name}.weight`, await read(c), undefined as never)) {
    const original = linears.get(name)!
    expect([name, tensor.dtype, tensor.shape]).toEqual([name, original.dtype, original.shape])
    expect(Buffer.from(tensor.data).equals(original.data), name).toBe(true)
  }
})

test('codes that a forward pass transposed in place are put back, with a warning', async () => {
  const warnings: string[] = []
  const c = {
    num_codebooks: 2,
    nbits_per_codebook: 8,
    in_group_size: 8,
    out_group_size: 1,
    out_features: 24,
    in_features: 64,
  }
  const weight = await aqlm.stored.read('after_cpu_forward.weight', [24, 64], readerOf(linears, c, warnings))
  expectValues(decode(weight), linears.get('after_cpu_forward.w')!)
  expect(warnings).toEqual([expect.stringContaining('stored transposed')])
})

/** Of the largest output; float32 sums beside float64 ones. */
const PRODUCT = { f32: 1e-6, f16: 1e-3, bf16: 8e-3 }

test.each(cases)('$name: the product of the reference backend', async (c) => {
  const x = linears.get(`${c.name}.x`)!
  const bias = linears.get(`${c.name}.bias`)
  const rows = x.shape[0]
  const weight: QuantizedWeight = await read(c)
  const actual = linear(toFloat32(x), rows, decode(weight), c.out_features, c.in_features, bias && toFloat32(bias))
  const expected = new Float64Array(linears.get(`${c.name}.y_f64`)!.data.slice().buffer)
  const largest = expected.reduce((max, y) => (Number.isFinite(y) ? Math.max(max, Math.abs(y)) : max), 0)
  let worst = 0
  expected.forEach((y, i) => {
    if (Number.isFinite(y)) worst = Math.max(worst, Math.abs(y - actual[i]) / largest)
  })
  expect(worst).toBeLessThan(PRODUCT[c.dtype])
})

/** Largest distance of logits of at most 0.6 from float64 ones: float32 sums (the reference's own: 6.6e-7). */
const LOGITS = 5e-6

async function openWith(folder: string, config: string) {
  const read = (name: string) => readFile(fixture(`aqlm/${folder}/${name}`))
  const files = memoryFiles({ 'config.json': await read(config), 'model.safetensors': await read('model.safetensors') })
  return modelSource(await openCheckpoint(files))
}

test.each([
  ['tiny_llama_2x8', 'config.json'],
  ['tiny_llama_2x8', 'config.published.json'],
  ['tiny_llama_1x10', 'config.json'],
  ['tiny_llama_1x10', 'config.published.json'],
])('%s with %s: the logits are the reference ones', async (folder, config) => {
  const tensors = await fixtureTensors(`aqlm/${folder}/logits.safetensors`)
  const ids = Array.from(new BigInt64Array(tensors.get('input_ids')!.data.slice().buffer), Number)
  const expected = Float32Array.from(new Float64Array(tensors.get('logits_dequant_f64')!.data.slice().buffer))
  const source = await openWith(folder, config)
  expect(source.warnings).toEqual([])
  const backend = await openBackend('reference')
  const model = await backend.compile(source.graph, source.load, { precision: 'exact', threads: 1 })
  const [sequences, length] = tensors.get('input_ids')!.shape
  const rows: number[] = []
  for (let s = 0; s < sequences; s++)
    rows.push(...(await model.run(rowsOf(ids.slice(s * length, (s + 1) * length), 0, 'all', s))))
  expect(source.warnings).toEqual([])
  expect(largestDifference(Float32Array.from(rows), expected).difference).toBeLessThan(LOGITS)
})

test('entries of a list are parameter names or module names', () => {
  const skips = (entry: string, module: string) => skipEntry([entry], module) !== undefined
  expect(skips('lm_head.weight', 'lm_head')).toBe(true)
  expect(skips('model.layers.1', 'model.layers.1.mlp.up_proj')).toBe(true)
  expect(skips('model.layers.1', 'model.layers.10.mlp.up_proj')).toBe(false)
  expect(skips('model.layers.0.self_attn.q_proj.bias', 'model.layers.0.self_attn.q_proj')).toBe(false)
  expect(skips('model.layers.\\d.mlp', 'model.layers.3.mlp.up_proj')).toBe(true)
  expect(skips('up.proj', 'model.layers.3.mlp.up_proj')).toBe(false)
})
