// The C++ quantiser of AQLM equals its TypeScript definition bit for bit, on both doors, for any number of threads and instruction set.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { openKernels } from '../../src/backends/cpu/native.ts'
import { quantizerKernels } from '../../src/backends/cpu/quantizers.ts'
import type { FloatDType } from '../../src/core/dtypes.ts'
import type { QuantizerKernels } from '../../src/core/kernels.ts'
import type { SearchSettings } from '../../src/methods/aqlm/config.ts'
import { runLinear } from '../../src/methods/aqlm/kernels.ts'
import { ErrorMoment, SecondMoment } from '../../src/methods/aqlm/moment.ts'
import { type LinearResult, quantizeLinear } from '../../src/methods/aqlm/oracle.ts'
import type { Problem } from '../../src/methods/aqlm/problem.ts'
import { changed, type TargetProblem, targetWeight } from '../../src/methods/aqlm/target.ts'
import { DOORS } from '../support/doors.ts'

interface Case {
  readonly outs: number
  readonly ins: number
  readonly out: number
  readonly in: number
  readonly codebooks: number
  readonly bits: number
  readonly search: SearchSettings
  readonly dtype: FloatDType
  /** Rows of inputs behind H: fewer than columns leave it singular. */
  readonly samples: number
  readonly seed: number
}

/** Weights with zero and constant rows among them, and the second moment of inputs with a dead and a large column. */
function problemOf(c: Case): Problem {
  let state = c.seed + 1
  const random = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
  const normal = () => random() + random() + random() - 1.5
  const [rows, columns] = [c.outs * c.out, c.ins * c.in]
  const w = new Float32Array(rows * columns)
  for (let r = 0; r < rows; r++) {
    const kind = random()
    for (let k = 0; k < columns; k++)
      w[r * columns + k] = kind < 0.05 ? 0 : kind < 0.1 ? 0.25 : normal() * (1 + 5 * kind)
  }
  const size = Float64Array.from({ length: columns }, () => (random() < 0.1 ? 0 : random() < 0.1 ? 20 : 1))
  const x = Float64Array.from({ length: c.samples * columns }, (_, i) => normal() * size[i % columns])
  const h = new Float32Array(columns * columns)
  for (let a = 0; a < columns; a++)
    for (let b = 0; b <= a; b++) {
      let sum = 0
      for (let n = 0; n < c.samples; n++) sum += x[n * columns + a] * x[n * columns + b]
      h[a * columns + b] = h[b * columns + a] = sum / c.samples
    }
  const { bits, codebooks } = c
  return { scheme: { kind: 'additive', bits, codebooks, group: { out: c.out, in: c.in } }, rows, columns, w, h }
}

const words = (values: Float32Array) => new Uint32Array(values.buffer, values.byteOffset, values.length)

/** The first difference, as a sentence. */
function difference(actual: LinearResult, expected: LinearResult): string | undefined {
  if (actual.epochs !== expected.epochs) return `${actual.epochs} epochs, expected ${expected.epochs}`
  const code = expected.codes.findIndex((value, i) => value !== actual.codes[i])
  if (code >= 0) return `code ${code} is ${actual.codes[code]}, expected ${expected.codes[code]}`
  for (const key of ['codebooks', 'scale'] as const) {
    const [a, e] = [words(actual[key]), words(expected[key])]
    const i = e.findIndex((word, at) => word !== a[at])
    if (i >= 0) return `${key}[${i}] is ${actual[key][i]}, expected ${expected[key][i]}`
  }
  for (const key of ['error', 'energy'] as const)
    if (actual[key] !== expected[key]) return `${key} is ${actual[key]}, expected ${expected[key]}`
  return undefined
}

async function compare(kernels: QuantizerKernels, c: Case): Promise<string | undefined> {
  const problem = problemOf(c)
  const actual = await runLinear(kernels, problem, c.search, c.dtype)
  return difference(actual, quantizeLinear(problem, c.search, c.dtype))
}

const search = fc.record({
  maxEpochs: fc.integer({ min: 0, max: 4 }),
  tolerance: fc.constantFrom(0, 0.01, 0.2),
  beamSize: fc.constantFrom(1, 1, 2, 3, 5),
  initIterations: fc.integer({ min: 1, max: 4 }),
  initPointsPerCentroid: fc.integer({ min: 1, max: 8 }),
  seed: fc.integer({ min: 0, max: 1000 }),
})
const cases = fc
  .record({
    outs: fc.integer({ min: 1, max: 45 }),
    ins: fc.integer({ min: 1, max: 7 }),
    out: fc.constantFrom(1, 1, 2, 3),
    in: fc.constantFrom(1, 3, 4, 8, 8, 16),
    codebooks: fc.integer({ min: 1, max: 3 }),
    bits: fc.integer({ min: 1, max: 5 }),
    search,
    dtype: fc.constantFrom<FloatDType>('F32', 'F16', 'BF16'),
    samples: fc.integer({ min: 1, max: 60 }),
    seed: fc.integer({ min: 0, max: 2 ** 30 }),
  })
  .map((c): Case => ({ ...c, bits: Math.min(c.bits, Math.floor(Math.log2(Math.max(2, c.outs * c.ins)))) }))
  .filter((c) => c.outs * c.ins >= 2 ** c.bits)

const settings = { maxEpochs: 2, tolerance: 0.01, initIterations: 2, initPointsPerCentroid: 4, seed: 5 }
const LARGE: readonly (readonly [string, Case])[] = [
  [
    '2x8 g8, several blocks of rows',
    {
      outs: 150,
      ins: 9,
      out: 1,
      in: 8,
      codebooks: 2,
      bits: 8,
      search: { ...settings, beamSize: 1 },
      dtype: 'F16',
      samples: 90,
      seed: 1,
    },
  ],
  [
    '1x9 g4, beam of 3',
    {
      outs: 70,
      ins: 16,
      out: 1,
      in: 4,
      codebooks: 1,
      bits: 9,
      search: { ...settings, beamSize: 3 },
      dtype: 'BF16',
      samples: 90,
      seed: 2,
    },
  ],
]

/** Codebooks that are searched by leaves, with equal entries among them: constant rows, and a dead column. */
const MANY_ENTRIES: readonly (readonly [string, Case])[] = [
  [
    '1x12 g8',
    {
      outs: 520,
      ins: 8,
      out: 1,
      in: 8,
      codebooks: 1,
      bits: 12,
      search: { ...settings, maxEpochs: 0, initIterations: 1, initPointsPerCentroid: 1, beamSize: 1 },
      dtype: 'F16',
      samples: 90,
      seed: 3,
    },
  ],
  [
    '2x12 g2, pairs of rows, few samples',
    {
      outs: 460,
      ins: 9,
      out: 2,
      in: 2,
      codebooks: 2,
      bits: 12,
      search: { ...settings, maxEpochs: 0, initIterations: 1, initPointsPerCentroid: 1, beamSize: 1 },
      dtype: 'BF16',
      samples: 5,
      seed: 4,
    },
  ],
  [
    '1x12 g3, beam of 2: only k-means goes by leaves',
    {
      outs: 690,
      ins: 6,
      out: 1,
      in: 3,
      codebooks: 1,
      bits: 12,
      search: { ...settings, maxEpochs: 0, initIterations: 1, initPointsPerCentroid: 1, beamSize: 2 },
      dtype: 'F32',
      samples: 90,
      seed: 5,
    },
  ],
]

/** Two codebooks of two entries for three weights: the first step finds them, and all that is left is rounding. */
const FOUND_AT_ONCE: Case = {
  outs: 1,
  ins: 3,
  out: 1,
  in: 1,
  codebooks: 2,
  bits: 1,
  search: { maxEpochs: 0, tolerance: 0, beamSize: 1, initIterations: 1, initPointsPerCentroid: 1, seed: 0 },
  dtype: 'F16',
  samples: 1,
  seed: 514236644,
}

/** One row of inputs, so that a column of next to nothing stands for the whole weight. */
const HARDLY_USED: Case = {
  outs: 14,
  ins: 2,
  out: 2,
  in: 16,
  codebooks: 1,
  bits: 4,
  search: { maxEpochs: 1, tolerance: 0, beamSize: 1, initIterations: 1, initPointsPerCentroid: 2, seed: 0 },
  dtype: 'F16',
  samples: 1,
  seed: 773571310,
}

/** A weight, and two halves of data with a dead column and errors that are partly of one kind. */
function targetProblemOf(rows: number, columns: number): TargetProblem {
  const half = (seed: number) => {
    const c = { ...HARDLY_USED, outs: rows, out: 1, ins: columns, in: 1, samples: columns + 3, seed }
    const { h } = problemOf(c)
    const diagonal = (i: number) => h[(i % columns) * (columns + 1)]
    const d = Float64Array.from({ length: rows * columns }, (_, i) => (Math.cos(i * 1.3) + seed / 20) * diagonal(i))
    return { count: 10 * seed, h, d }
  }
  const w = Float32Array.from({ length: rows * columns }, (_, i) => Math.sin(i * 0.7))
  return { rows, columns, w, halves: [half(9), half(11)] }
}

describe.each(DOORS)('%s', (_door, kernels) => {
  test.each([
    [5, 3, 2],
    [300, 70, 19],
    [520, 32, 40],
  ])('error moment of %d rows, %d columns, %d outputs', async (rows, columns, outputs) => {
    const values = (count: number, step: number) =>
      Float32Array.from({ length: 2 * rows * count }, (_, i) => Math.sin(i * step) * (1 + (i % 5)))
    const [wanted, given, x] = [values(outputs, 1.7), values(outputs, 0.3), values(columns, 1.1)]
    const moment = new ErrorMoment(outputs, columns, kernels)
    const expected = new ErrorMoment(outputs, columns, undefined)
    for (const half of [0, 1]) {
      const part = (v: Float32Array) => v.subarray((half * v.length) / 2, ((half + 1) * v.length) / 2)
      await moment.add(part(wanted), part(given), part(x))
      await expected.add(part(wanted), part(given), part(x))
    }
    expect(moment.mean()).toEqual(expected.mean())
  })

  test.each([
    [1, 5],
    [5, 31],
    [33, 70],
    [70, 129],
  ])('target of [%d, %d]', async (rows, columns) => {
    const problem = targetProblemOf(rows, columns)
    const [data, judge] = problem.halves
    const change = { data, judge, lambda: 0.3, alpha: 0.7 }
    expect(await changed(problem, change, kernels)).toEqual(await changed(problem, change, undefined))
    const actual = await targetWeight(problem, kernels)
    expect(actual).toEqual(await targetWeight(problem, undefined))
    expect(actual).not.toEqual(problem.w)
  })

  test.each([
    [5, 3],
    [300, 70],
    [700, 32],
  ])('second moment of %d rows of %d columns', async (rows, columns) => {
    const x = Float32Array.from({ length: 2 * rows * columns }, (_, i) => Math.sin(i * 1.7) * (1 + (i % 7)))
    const moment = new SecondMoment(columns, kernels)
    const expected = new SecondMoment(columns, undefined)
    for (const half of [x.subarray(0, rows * columns), x.subarray(rows * columns)]) {
      await moment.add(half)
      await expected.add(half)
    }
    expect(moment.mean()).toEqual(expected.mean())
  })

  test('random linears, schemes and settings', async () => {
    await fc.assert(
      fc.asyncProperty(cases, async (c) => {
        expect(await compare(kernels, c)).toBeUndefined()
      }),
      { numRuns: 60 },
    )
  })

  test('codebooks that are found before the last step stay where they are', async () => {
    const problem = problemOf(FOUND_AT_ONCE)
    const { codebooks, error, energy } = await runLinear(kernels, problem, FOUND_AT_ONCE.search, FOUND_AT_ONCE.dtype)
    expect(Math.max(...codebooks.map(Math.abs))).toBeLessThan(2) // weights below 2, scale 2.7
    expect(error).toBeLessThan(energy)
    expect(await compare(kernels, FOUND_AT_ONCE)).toBeUndefined()
  })

  test('an entry beyond float16 becomes its largest value, never infinite', async () => {
    const { codebooks, error } = await runLinear(kernels, problemOf(HARDLY_USED), HARDLY_USED.search, 'F16')
    expect(Math.max(...codebooks.map(Math.abs))).toBe(65504)
    expect(error).toBeLessThan(Infinity)
    expect(await compare(kernels, HARDLY_USED)).toBeUndefined()
  })

  test.each(LARGE)('%s', async (_name, c) => {
    expect(await compare(kernels, c)).toBeUndefined()
  })

  test.each(MANY_ENTRIES)(
    '%s: leaves that are passed over hold nothing better',
    async (name, c) => {
      const actual = await runLinear(kernels, problemOf(c), c.search, c.dtype)
      expect(difference(actual, exhaustive(name, c))).toBeUndefined()
    },
    300_000,
  )
})

const results = new Map<string, LinearResult>()

/** The definition's result, which scores all entries; found once for all doors. */
function exhaustive(name: string, c: Case): LinearResult {
  const result = results.get(name) ?? quantizeLinear(problemOf(c), c.search, c.dtype)
  results.set(name, result)
  return result
}

test('the result depends neither on the number of threads nor on the instruction set', async () => {
  const { door } = await openKernels()
  const [, c] = LARGE[0]
  const problem = problemOf({ ...c, outs: 300 })
  const level = door.kernels.fb_level()
  door.setThreads(1)
  const expected = await runLinear(quantizerKernels(door), problem, c.search, c.dtype)
  for (const [threads, isa] of [
    [2, level],
    [3, level],
    [3, 1],
    [2, 0],
  ]) {
    door.setThreads(threads)
    if (door.kind === 'native') door.kernels.fb_set_level(Math.min(isa, level))
    const actual = await runLinear(quantizerKernels(door), problem, c.search, c.dtype)
    expect(difference(actual, expected), `${threads} threads, level ${isa}`).toBeUndefined()
  }
  if (door.kind === 'native') door.kernels.fb_set_level(level)
})
