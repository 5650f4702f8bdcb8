// A table of every block type of GGUF, looked up by token and multiplied as a tied head, on every compiled device against the reference.
import { describe, expect, test } from 'vitest'
import { rowsOf } from '../../src/backends/batch.ts'
import { openBackend } from '../../src/backends/index.ts'
import type { Backend, CompileOptions, Executable } from '../../src/backends/types.ts'
import { rawTensor } from '../../src/core/dtypes.ts'
import { GraphBuilder } from '../../src/graph/builder.ts'
import { BLOCK_QUANTIZERS, quantizeSuperblocks } from '../../src/methods/gguf/quantize-superblocks.ts'
import type { SuperblockType } from '../../src/weights/superblock/index.ts'
import type { QuantizedWeight } from '../../src/weights/weight.ts'
import { COMPILED, openDevice } from '../support/devices.ts'
import { expectClose, FAST, KERNEL } from '../support/tolerances.ts'

/** Panels of 16 rows that are not full, and two superblocks a row. */
const ROWS = 40
const COLUMNS = 512
const IDS = Array.from({ length: 11 }, (_, i) => (i * 7) % ROWS)

function weightOf(type: SuperblockType): QuantizedWeight {
  const values = Float32Array.from(
    { length: ROWS * COLUMNS },
    (_, i) => Math.sin(i * 12.9898) * Math.cos(i * 0.37) * 0.1,
  )
  const importance = Float32Array.from({ length: COLUMNS }, (_, i) => 1 + (i % 5))
  const blocks = quantizeSuperblocks(type, values, COLUMNS, importance)
  return {
    scheme: { kind: 'superblock', type },
    shape: [ROWS, COLUMNS],
    parts: { blocks: rawTensor('U8', [ROWS, blocks.length / ROWS], blocks) },
  }
}

async function compile(
  backend: Backend,
  weight: QuantizedWeight,
  precision: CompileOptions['precision'],
): Promise<Executable> {
  const g = new GraphBuilder()
  const x = g.embedding('table', ROWS, COLUMNS)
  const graph = g.finish(g.linear(g.selectRows(x), 'head', ROWS, { tied: 'table' }))
  return backend.compile(graph, async () => weight, { precision, threads: 2 })
}

/** Logits of all ids at once, and of two of them as a decode step. */
async function results(backend: Backend, weight: QuantizedWeight, precision: CompileOptions['precision'] = 'exact') {
  const model = await compile(backend, weight, precision)
  const prefill = (await model.run(rowsOf(IDS, 0, 'all'))).slice()
  const decode = (await model.run({ ...rowsOf(IDS.slice(0, 2), IDS.length, 'all'), phase: 'decode' })).slice()
  const { bytes } = model.kernels()[0]
  model.dispose()
  return { prefill, decode, bytes }
}

const TYPES = Object.keys(BLOCK_QUANTIZERS) as SuperblockType[]
const reference = await openBackend('reference')

describe.each(COMPILED)('$name', (device) => {
  test.each(TYPES)('%s', async (type) => {
    const weight = weightOf(type)
    const wanted = await results(reference, weight)
    const backend = await openDevice(device)
    for (const [precision, tolerance] of [
      ['exact', KERNEL],
      ['fast', FAST],
    ] as const) {
      const { prefill, decode } = await results(backend, weight, precision)
      expectClose({ prefill, decode }, { prefill: wanted.prefill, decode: wanted.decode }, tolerance)
    }
  })
})

test.each(['IQ2_XXS', 'IQ2_S', 'IQ3_S', 'IQ1_M'] as const)('%s is not kept as floats', async (type) => {
  const { bytes } = await results(await openBackend('cpu'), weightOf(type))
  expect((bytes * 8) / (48 * COLUMNS)).toBeLessThan(5) // 48: whole panels
})
