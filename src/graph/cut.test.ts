import { expect, test } from 'vitest'
import { openBackend } from '../backends/index.ts'
import type { RowBatch } from '../backends/types.ts'
import { rawTensor } from '../core/dtypes.ts'
import { denseWeight } from '../weights/weight.ts'
import { GraphBuilder } from './builder.ts'
import { blockSpans, cutGraph, outputTap } from './cut.ts'
import type { Graph } from './types.ts'

/** Two blocks x + W x over a table of three tokens of four values. */
function twoBlocks(): Graph {
  const g = new GraphBuilder()
  let x = g.embedding('table', 3, 4)
  g.tap('embedding', x)
  for (const layer of [0, 1]) {
    x = g.add(x, g.linear(x, `layers.${layer}.up`, 4))
    g.tap(`layers.${layer}`, x)
  }
  return g.finish(g.linear(g.selectRows(x), 'head', 3, { tied: 'table' }))
}

const VALUES = new Map([
  [
    'table',
    rawTensor(
      'F32',
      [3, 4],
      Float32Array.from({ length: 12 }, (_, i) => i - 5),
    ),
  ],
  [
    'layers.0.up.weight',
    rawTensor(
      'F32',
      [4, 4],
      Float32Array.from({ length: 16 }, (_, i) => i % 3),
    ),
  ],
  [
    'layers.1.up.weight',
    rawTensor(
      'F32',
      [4, 4],
      Float32Array.from({ length: 16 }, (_, i) => (i % 5) - 2),
    ),
  ],
])

async function compile(device: string, graph: Graph, taps: string[] = []) {
  const backend = await openBackend(device)
  const load = async (index: number) => denseWeight(VALUES.get(graph.parameters[index].path)!)
  return backend.compile(graph, load, { precision: 'exact', threads: 1, taps })
}

function batch(inputs: Float32Array[] = []): RowBatch {
  const ids = Int32Array.of(2, 0)
  return {
    ids: inputs.length > 0 ? new Int32Array(2) : ids,
    positions: Int32Array.of(0, 1),
    slots: new Int32Array(2),
    outputs: new Int32Array(0),
    phase: 'prefill',
    inputs,
  }
}

test.each(['reference', 'cpu', 'wasm'])(
  'blocks run one after another give the values of the whole graph (%s)',
  async (device) => {
    const graph = twoBlocks()
    const spans = blockSpans(graph)
    expect(spans).toHaveLength(2)
    const whole = await compile(device, graph, ['embedding', 'layers.1'])
    await whole.run(batch())
    let x = whole.tap('embedding')
    for (const { input, output } of spans) {
      const piece = cutGraph(graph, [input], [output])
      expect(piece.parameters.map((i) => graph.parameters[i].path)).toEqual([piece.graph.parameters[0].path])
      const block = await compile(device, piece.graph, [outputTap(0)])
      await block.run(batch([x]))
      x = block.tap(outputTap(0)).slice()
      block.dispose()
    }
    expect([...x]).toEqual([...whole.tap('layers.1')])
    whole.dispose()
  },
)

test('an output that is an input comes back as it is, and a piece keeps only what it needs', async () => {
  const graph = twoBlocks()
  const [, second] = blockSpans(graph)
  const linear = graph.nodes.findIndex((node) => node.op === 'linear' && node.x === second.input)
  const piece = cutGraph(graph, [second.input], [linear, second.input])
  expect(piece.graph.nodes.map((node) => node.op)).toEqual(['input', 'linear'])
  const model = await compile('cpu', piece.graph, [outputTap(0), outputTap(1)])
  const x = Float32Array.of(1, 0, 0, 0, 0, 1, 0, 0)
  await model.run(batch([x]))
  expect([...model.tap(outputTap(1))]).toEqual([...x])
  await expect(model.run(batch([x.subarray(1)]))).rejects.toThrow('an input has another size')
  model.dispose()
})
