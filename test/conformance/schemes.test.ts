// Every scheme on every device, alone: a linear of each width, zero and grouping against the reference backend, in each phase, with each
// number of rows that kernels tell apart; and its rows as a token table, which must be decoded bit for bit.
import { afterAll, describe, test } from 'vitest'
import { openBackend } from '../../src/backends/index.ts'
import type { Backend, Precision, RowBatch } from '../../src/backends/types.ts'
import { rawTensor } from '../../src/core/dtypes.ts'
import { GraphBuilder } from '../../src/graph/builder.ts'
import type { Graph } from '../../src/graph/types.ts'
import { inputOf } from '../../src/weights/quantized-input.ts'
import { decode, denseWeight, type QuantizedWeight } from '../../src/weights/weight.ts'
import { COMPILED, openDevice } from '../support/devices.ts'
import { bellShaped } from '../support/random.ts'
import { schemeSamples } from '../support/scheme-samples.ts'
import { expectClose, expectSameBits, FAST, KERNEL } from '../support/tolerances.ts'
import { isFull } from '../support/walk.ts'

/** Rows (N) and columns (K). Whole blocks; unfilled panels of 16; ends inside a chunk of 32. */
const SHAPES: readonly (readonly [number, number])[] = isFull
  ? [
      [48, 512],
      [33, 256],
      [16, 96],
      [40, 40],
      [7, 37],
      [1, 64],
      [130, 1],
    ]
  : [
      [33, 512],
      [20, 40],
    ]
if (!isFull) console.log('skipped: 5 of 7 shapes of each scheme: only the full walk (FEWBIT_CONFORMANCE=full)')

/** x of the linear is a table of this many rows. */
const TABLE = 32
/** One, a few, a slice, one more than a slice, more than a panel. */
const ROWS = [1, 3, 4, 8, 9, 16]

/** `decode of r` runs the ids r to 2r - 1: an id, and two batches that hold it. */
const SHARED = [
  [5, 3, 4],
  [9, 8, 9],
  [15, 8, 9],
  [17, 9, 16],
] as const

function linearGraph(n: number, k: number, bias: boolean): Graph {
  const g = new GraphBuilder()
  return g.finish(g.linear(g.embedding('x', TABLE, k), 'w', n, { bias }))
}

function tableGraph(n: number, k: number): Graph {
  const g = new GraphBuilder()
  return g.finish(g.embedding('w', n, k))
}

function rowsFrom(first: number, count: number, phase: RowBatch['phase']): RowBatch {
  const rows = Int32Array.from({ length: count }, (_, i) => i)
  return { ids: rows.map((i) => (first + i) % TABLE), positions: rows, slots: rows, outputs: rows, phase }
}

interface Case {
  readonly graph: Graph
  readonly weights: readonly QuantizedWeight[]
}

function linearOf(weight: QuantizedWeight): Case {
  const [n, k] = weight.shape
  const x = denseWeight(rawTensor('F32', [TABLE, k], bellShaped(TABLE * k, 1, n + k)))
  const bias = denseWeight(rawTensor('F32', [n], bellShaped(n, 1, n)))
  return { graph: linearGraph(n, k, true), weights: [x, weight, bias] }
}

/** Products by rows and phase. */
async function productsOn(backend: Backend, { graph, weights }: Case, precision: Precision, threads: number) {
  const model = await backend.compile(graph, async (i) => weights[i], { precision, threads })
  const out: Record<string, Float32Array> = {}
  for (const phase of ['prefill', 'decode'] as const)
    for (const rows of ROWS) out[`${phase} of ${rows}`] = (await model.run(rowsFrom(rows, rows, phase))).slice()
  const kernel = model.kernels()[1].kernel
  model.dispose()
  return { out, kernel }
}

const reference = await openBackend('reference')
const kernels = new Set<string>()
afterAll(() => console.log(`kernels walked: ${[...kernels].sort().join('; ')}`))

describe.each(SHAPES)('[%i, %i]', (n, k) => {
  test.each(schemeSamples([n, k]).map(({ name, weight }) => [name, weight] as const))('%s', async (name, weight) => {
    const linear = linearOf(weight)
    const expected = (await productsOn(reference, linear, 'exact', 1)).out
    const values = decode(weight)
    const coded = weight.scheme.kind === 'affine' ? weight.scheme.activations : undefined
    for (const device of COMPILED) {
      const backend = await openDevice(device)
      for (const [precision, tolerance] of [
        ['exact', KERNEL],
        // Inputs that the method quantises are multiplied as they are.
        ['fast', inputOf(weight.scheme) ? KERNEL : FAST],
      ] as const) {
        const { out, kernel } = await productsOn(backend, linear, precision, 1)
        kernels.add(`${device.name} ${weight.scheme.kind} ${kernel}`)
        expectClose(out, expected, tolerance)
        if (!coded?.outlierThreshold) expectRowsAlone(out, n)
        const two = (await productsOn(backend, linear, precision, 2)).out
        for (const key of Object.keys(out))
          expectSameBits(two[key], out[key], `${device.name} ${precision} ${key}, 2 threads`)
      }
      if (coded) continue
      const table = await backend.compile(tableGraph(n, k), async () => weight, { precision: 'exact', threads: 1 })
      const ids = Int32Array.from({ length: n }, (_, i) => i)
      const rows = await table.run({ ids, positions: ids, slots: ids, outputs: ids, phase: 'prefill' })
      expectSameBits(rows, values, `${device.name}: rows of ${name}`)
      table.dispose()
    }
  })
})

/** In decode a row has the same bits in any company: ids that two batches share are compared. */
function expectRowsAlone(out: Readonly<Record<string, Float32Array>>, n: number): void {
  const row = (rows: number, id: number) => out[`decode of ${rows}`].subarray((id - rows) * n, (id - rows + 1) * n)
  for (const [id, few, many] of SHARED)
    expectSameBits(row(few, id), row(many, id), `id ${id} among ${few} and ${many} rows`)
}
