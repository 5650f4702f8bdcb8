// What the engine's door refuses, and what it does at the edges; agreement with the reference is test/conformance/backends.test.ts.
import { expect, test } from 'vitest'
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
