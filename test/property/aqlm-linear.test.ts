// Products with additive codebooks: every scheme on every device and instruction set, in both phases and all precisions, against the
// decoded weight in float64.
import { describe, expect, test } from 'vitest'
import { linear } from '../../src/backends/reference/ops.ts'
import type { Precision } from '../../src/backends/types.ts'
import { rawTensor } from '../../src/core/dtypes.ts'
import { fromFloat32 } from '../../src/core/half.ts'
import type { AdditiveScheme } from '../../src/weights/scheme.ts'
import { decode, type QuantizedWeight } from '../../src/weights/weight.ts'
import { COMPILED, openDevice } from '../support/devices.ts'
import { linearBatch, linearGraph } from '../support/linear-model.ts'
import { largestDifference, span } from '../support/tensors.ts'

const ROWS = 3

function random(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
}

function weightOf(shape: readonly [number, number], scheme: Omit<AdditiveScheme, 'kind'>): QuantizedWeight {
  const next = random(11)
  const { bits, codebooks, group } = scheme
  const [rows, groups, entries] = [shape[0] / group.out, shape[1] / group.in, 2 ** bits]
  const codes = Array.from({ length: rows * groups * codebooks }, () => Math.floor(next() * entries))
  const values = (count: number) =>
    fromFloat32(
      Float32Array.from({ length: count }, () => next() * 2 - 1),
      'F16',
    )
  const book = [codebooks, entries, group.out, group.in]
  return {
    scheme: { kind: 'additive', ...scheme },
    shape,
    parts: {
      codes:
        bits <= 8
          ? rawTensor('U8', [rows, groups, codebooks], Uint8Array.from(codes))
          : rawTensor('U16', [rows, groups, codebooks], Uint16Array.from(codes)),
      codebooks: rawTensor('F16', book, values(book.reduce((a, b) => a * b))),
      scale: rawTensor('F16', [rows], values(rows)),
    },
  }
}

const one = (width: number) => ({ out: 1, in: width })
const CASES: readonly (readonly [string, readonly [number, number], Omit<AdditiveScheme, 'kind'>])[] = [
  ['2x8 g8, six panels', [330, 128], { bits: 8, codebooks: 2, group: one(8) }],
  ['2x8 g8, more columns than tables in a cache', [64, 1024], { bits: 8, codebooks: 2, group: one(8) }],
  ['2x8 g8, fewer rows than a table is worth', [17, 64], { bits: 8, codebooks: 2, group: one(8) }],
  ['1x8 g16', [130, 96], { bits: 8, codebooks: 1, group: one(16) }],
  ['8x8 g32', [200, 96], { bits: 8, codebooks: 8, group: one(32) }],
  ['3x5 g8', [70, 40], { bits: 5, codebooks: 3, group: one(8) }],
  ['2x7 g5, a group of an odd width', [520, 45], { bits: 7, codebooks: 2, group: one(5) }],
  ['2x8 g128, wider than int16 tables take', [130, 256], { bits: 8, codebooks: 2, group: one(128) }],
  ['1x1 g3', [70, 33], { bits: 1, codebooks: 1, group: one(3) }],
  ['1x12 g8', [70, 264], { bits: 12, codebooks: 1, group: one(8) }],
  ['2x6 g4, pairs of rows', [74, 264], { bits: 6, codebooks: 2, group: { out: 2, in: 4 } }],
  ['1x9 g24, three rows', [33, 288], { bits: 9, codebooks: 1, group: { out: 3, in: 24 } }],
]

/** Of the span of the outputs. Exact: float32 sums. int16 tables: a step is 1/2048 of the largest product of a block. */
const TOLERANCE: Readonly<Record<Precision, number>> = { exact: 1e-6, fast: 1e-6, fastest: 2e-3 }

describe.each(COMPILED)('$name', (device) => {
  test.each(CASES)('%s', async (_name, shape, scheme) => {
    const [n, k] = shape
    const weight = weightOf(shape, scheme)
    const next = random(5)
    const x = Float32Array.from({ length: ROWS * k }, () => (next() * 2 - 1) * (next() < 0.02 ? 20 : 1))
    const expected = linear(x, ROWS, decode(weight), n, k, undefined)
    const backend = await openDevice(device)
    for (const precision of ['exact', 'fast', 'fastest'] as const) {
      const model = await backend.compile(linearGraph(shape), async () => weight, { precision, threads: 2 })
      for (const phase of ['decode', 'prefill'] as const) {
        const all = (await model.run(linearBatch(x, ROWS, phase))).slice()
        const { difference } = largestDifference(all, expected)
        expect(difference / span(expected), `${precision}, ${phase}`).toBeLessThan(TOLERANCE[precision])
        if (phase === 'prefill') continue
        const last = await model.run(linearBatch(x.slice((ROWS - 1) * k), 1, phase))
        expect(last.slice(), 'a row alone').toEqual(all.slice((ROWS - 1) * n))
      }
      model.dispose()
    }
  })
})
