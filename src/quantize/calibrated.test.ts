// A method that quantises block by block, through the real engine: what each block is given, and what a killed run ends in.
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { rows } from '../../test/support/row-method.ts'
import { FIXTURES } from '../../test/support/tensors.ts'
import { openBackend } from '../backends/index.ts'
import { localFiles } from '../checkpoint/node/files.ts'
import { outputStore } from '../checkpoint/node/output.ts'
import { openCheckpoint } from '../checkpoint/open.ts'
import { fromFloat32, toFloat32 } from '../core/half.ts'
import type { BlockMethod } from '../methods/calibration.ts'
import type { Method } from '../methods/types.ts'
import { type ModelSource, modelSource } from '../models/source.ts'
import { denseWeight } from '../weights/weight.ts'
import { quantizeModel } from './quantize.ts'

const folder = await mkdtemp(join(tmpdir(), 'fewbit-blocks-'))
afterAll(() => rm(folder, { recursive: true, force: true }))

/** `rows` block by block: norms are doubled, and what each block saw is noted; of the original model where that is asked for. */
function blockRows(
  feeds: BlockMethod['feeds'],
  seen: Map<number, number[]>,
  stopAfter = Infinity,
  needsOriginals = false,
) {
  let given = 0
  const block: BlockMethod<Record<string, never>, null> = {
    data: () => ({ cut: 'joined', length: 8 }),
    feeds,
    needsOriginals,
    async *quantize(b) {
      const sums: number[] = []
      const linears = b.graph.nodes.filter((node) => node.op === 'linear')
      const from = new Map([[b.input, b.originals ?? b.inputs]])
      await b.run({ from, to: linears.map((node) => node.x) }, (values) => {
        for (const value of values) sums.push(value.reduce((sum, x) => sum + Math.abs(x), 0))
      })
      seen.set(b.layer, sums)
      for (const { path, name, settings } of b.tensors) {
        if (b.finished.has(path)) continue
        const tensor = await b.load(path)
        if (given++ === stopAfter) throw new Error('killed')
        if (settings !== undefined) yield { path, weight: await rows.quantize({ name, tensor, settings }) }
        else yield { path, weight: denseWeight({ ...tensor, data: doubled(tensor) }) }
      }
      return feeds === 'returned' ? (await b.record({ to: [b.output] }))[0] : undefined
    },
  }
  const method: Method<Record<string, never>, null> = {
    ...rows,
    scope: 'block',
    block,
    plan: (tensors, model, config) => {
      const plan = rows.plan(tensors, model, config)
      const isNorm = (name: string) => name.endsWith('layernorm.weight')
      return {
        ...plan,
        tensors: plan.tensors.map((step, i) => (isNorm(tensors[i].name) ? { action: 'adjust' } : step)),
      }
    },
  }
  return method as unknown as Method
}

const doubled = (tensor: Parameters<typeof toFloat32>[0]) =>
  fromFloat32(
    toFloat32(tensor).map((x) => 2 * x),
    'BF16',
  )

async function source(): Promise<ModelSource> {
  return modelSource(await openCheckpoint(await localFiles(join(FIXTURES, 'transformers/models/llama3-rope'))))
}

async function quantize(method: Method, out: string, memoryBytes?: number) {
  const blocks = [1, 2, 3].map((b) => Int32Array.from({ length: 8 }, (_, i) => (b * 37 + i * 11) % 100))
  const backend = await openBackend('cpu')
  const model = await source()
  const store = await outputStore(join(folder, out), { force: false })
  try {
    return await quantizeModel(model, method, {}, store, {
      calibration: { ids: { blocks, length: 8 }, backend, threads: 1, memoryBytes },
    })
  } finally {
    await model.checkpoint.close()
  }
}

const hashOf = async (out: string) =>
  createHash('sha256')
    .update(await readFile(join(folder, out, 'model.safetensors')))
    .digest('hex')

test('a second block sees the first as it was, as it became, or what it returned, as the method says', async () => {
  const original = new Map<number, number[]>()
  const quantized = new Map<number, number[]>()
  await quantize(blockRows('original', original), 'original')
  await quantize(blockRows('quantized', quantized), 'quantized')
  expect(original.get(0)).toEqual(quantized.get(0))
  expect(original.get(1)).not.toEqual(quantized.get(1))
  const returned = new Map<number, number[]>()
  await quantize(blockRows('returned', returned), 'returned')
  expect(returned.get(1)).toEqual(original.get(1))
})

test('a method that compares is given the values of the original model beside those of the quantised one', async () => {
  const original = new Map<number, number[]>()
  await quantize(blockRows('original', original), 'compared-original')
  for (const memoryBytes of [undefined, 0]) {
    const seen = new Map<number, number[]>()
    await quantize(blockRows('quantized', seen, Infinity, true), `compared-${memoryBytes}`, memoryBytes)
    expect(seen).toEqual(original)
  }
  expect(await hashOf('compared-undefined')).toBe(await hashOf('quantized'))
})

test('values beyond the memory budget go to scratch files and change nothing', async () => {
  const inMemory = new Map<number, number[]>()
  const onDisk = new Map<number, number[]>()
  await quantize(blockRows('quantized', inMemory), 'memory')
  await quantize(blockRows('quantized', onDisk), 'disk', 0)
  expect(onDisk).toEqual(inMemory)
  expect(await hashOf('disk')).toBe(await hashOf('memory'))
  expect(existsSync(join(folder, 'disk.fewbit-partial'))).toBe(false)
})

test.each(['original', 'quantized', 'returned'] as const)(
  'a killed run goes on and ends in the same bytes (feeds %s)',
  async (feeds) => {
    const whole = new Map<number, number[]>()
    await quantize(blockRows(feeds, whole), `whole-${feeds}`)
    for (const stopAfter of [0, 3, 8, 11]) {
      const out = `killed-${feeds}-${stopAfter}`
      await expect(quantize(blockRows(feeds, new Map(), stopAfter), out)).rejects.toThrow('killed')
      const seen = new Map<number, number[]>()
      const result = await quantize(blockRows(feeds, seen), out)
      expect(result.resumed).toBeGreaterThan(0)
      expect(seen.get(1)).toEqual(whole.get(1))
      expect(await hashOf(out)).toBe(await hashOf(`whole-${feeds}`))
    }
  },
)
