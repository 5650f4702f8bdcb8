// What the engine's door refuses, and what it does at the edges; agreement with the reference is test/conformance/backends.test.ts.
import { expect, test } from 'vitest'
import { compileModel } from '../../../test/support/models.ts'
import { rawTensor } from '../../core/dtypes.ts'
import { GraphBuilder } from '../../graph/builder.ts'
import { denseWeight } from '../../weights/weight.ts'
import { rowsOf } from '../batch.ts'
import { openBackend } from '../index.ts'
import type { Executable } from '../types.ts'

/** Two tokens of 4 values, doubled by an addition; the head is the table. */
async function tiny(taps: readonly string[] = []): Promise<Executable> {
  const g = new GraphBuilder()
  const x = g.embedding('table', 2, 4)
  const sum = g.add(x, x)
  g.tap('sum', sum)
  const graph = g.finish(g.linear(g.selectRows(sum), 'head', 2, { tied: 'table' }))
  const table = rawTensor('F32', [2, 4], Float32Array.of(1, 2, 3, 4, 0, 1, 0, -1))
  const backend = await openBackend('cpu')
  return backend.compile(graph, async () => denseWeight(table), { precision: 'exact', threads: 2, taps })
}

test('logits and a tap of a model of two tokens', async () => {
  const model = await tiny(['sum'])
  expect([...(await model.run(rowsOf([1, 0], 0, 'all')))]).toEqual([-4, 4, 60, -4])
  expect([...model.tap('sum')]).toEqual([0, 2, 0, -2, 2, 4, 6, 8])
  expect(() => model.tap('other')).toThrow('was not compiled with tap "other"')
  model.dispose()
})

test('runs that overlap are done one after another', async () => {
  const model = await tiny()
  const runs = [0, 1, 0].map((id) => model.run(rowsOf([id], 0, 'last')).then((logits) => [...logits]))
  expect(await Promise.all(runs)).toEqual([
    [60, -4],
    [-4, 4],
    [60, -4],
  ])
  model.dispose()
})

test('ids, positions and wanted rows outside their range are refused by name', async () => {
  const model = await tiny()
  await expect(model.run(rowsOf([0, 2], 0, 'all'))).rejects.toThrow('Cannot run token 2: the model has ids 0 to 1')
  await expect(model.run(rowsOf([0], -1, 'all'))).rejects.toThrow('out of range')
  await expect(model.run({ ...rowsOf([0], 0, 'all'), outputs: Int32Array.of(1) })).rejects.toThrow('out of range')
  await expect(model.run(rowsOf([], 0, 'all'))).rejects.toThrow('0 rows')
  model.dispose()
  await expect(model.run(rowsOf([0], 0, 'all'))).rejects.toThrow('disposed')
})

test('memory is given back when a model is disposed of', async () => {
  const { findAddon, openWasmKernels } = await import('./native.ts')
  const addon = findAddon()
  const door = 'missing' in addon ? await openWasmKernels() : addon
  const before = door.kernels.fb_allocated()
  const model = await tiny()
  await model.run(rowsOf([1, 0], 0, 'all'))
  expect(model.memory().weightBytes).toBeGreaterThan(0)
  expect(door.kernels.fb_allocated()).toBeGreaterThan(before)
  model.dispose()
  expect(door.kernels.fb_allocated()).toBe(before)
})

test('a long prompt runs in blocks of rows: the same logits, in the memory of one block', async () => {
  const model = await tiny()
  const ids = Array.from({ length: 2000 }, (_, i) => (i % 3) % 2)
  await model.run(rowsOf(ids.slice(0, 512), 0, 'last'))
  const { cacheBytes } = model.memory()
  expect([...(await model.run(rowsOf(ids, 0, 'last')))]).toEqual(ids[1999] === 1 ? [-4, 4] : [60, -4])
  expect(model.memory().cacheBytes).toBe(cacheBytes)
  const all = await model.run(rowsOf(ids, 0, 'all'))
  expect(ids.findIndex((id, r) => all[2 * r] !== (id === 1 ? -4 : 60))).toBe(-1)
  model.dispose()
  const tapped = await tiny(['sum'])
  await tapped.run(rowsOf(ids, 0, 'last'))
  expect(tapped.tap('sum').length).toBe(4 * 2000)
  tapped.dispose()
})

test('blocks of a prompt attend to those before them: the same bits however it is cut', async () => {
  const model = await compileModel('transformers/models/llama', 'cpu')
  const ids = Array.from({ length: 700 }, (_, i) => (i * 37) % 256)
  const whole = Float32Array.from(await model.run(rowsOf(ids, 0, 'all')))
  model.truncate(0, 0)
  const cut: number[] = []
  for (const [from, to] of [
    [0, 300],
    [300, 650],
    [650, 700],
  ])
    cut.push(...(await model.run(rowsOf(ids.slice(from, to), from, 'all'))))
  expect(cut.findIndex((value, i) => value !== whole[i])).toBe(-1)
  expect(cut.length).toBe(whole.length)
  model.dispose()
})
