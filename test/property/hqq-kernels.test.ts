// The C++ quantiser of HQQ equals its TypeScript definition bit for bit, on both doors and for any number of threads.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { openKernels } from '../../src/backends/cpu/native.ts'
import { quantizerKernels } from '../../src/backends/cpu/quantizers.ts'
import type { QuantizerKernels } from '../../src/core/kernels.ts'
import { type HqqSettings, PACKING_OF_BITS } from '../../src/methods/hqq/config.ts'
import { runGroups } from '../../src/methods/hqq/kernels.ts'
import { layoutOf } from '../../src/methods/hqq/layout.ts'
import { type HqqResult, quantizeGroups } from '../../src/methods/hqq/oracle.ts'
import { DOORS } from '../support/doors.ts'

interface Case {
  readonly shape: readonly [number, number]
  readonly bits: number
  readonly axis: 0 | 1
  readonly grouped: boolean
  readonly flags: { channelWise: boolean; optimize: boolean; roundZero: boolean }
  /** Typical size of a weight: small ones never reach the shrinkage, large ones always do. */
  readonly size: number
  readonly seed: number
}

function settingsOf({ bits, axis, grouped, flags }: Case, groupSize: number): HqqSettings {
  const packing = PACKING_OF_BITS.get(bits)!
  return {
    bits,
    packing,
    axis,
    groupSize: grouped ? groupSize : null,
    ...flags,
    viewAsFloat: false,
    offloadMeta: false,
  }
}

/** Weights of a triangular distribution, with runs of zeros, equal values, tiny values and outliers among them. */
function weightsOf(count: number, size: number, seed: number): Float32Array {
  let state = seed + 1
  const random = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
  const w = new Float32Array(count)
  for (let i = 0; i < count; ) {
    const kind = random()
    const run = 1 + Math.floor(random() * 96)
    for (const end = Math.min(count, i + run); i < end; i++) {
      const value = (random() - random()) * size
      w[i] = kind < 0.06 ? (i % 2 ? -0 : 0) : kind < 0.1 ? size : kind < 0.14 ? value * 1e-6 : value
      if (random() < 0.002) w[i] *= 40
    }
  }
  return w
}

const words = (values: Float32Array) => new Uint32Array(values.buffer, values.byteOffset, values.length)

/** The first difference, as a sentence. */
function difference(actual: HqqResult, expected: HqqResult): string | undefined {
  for (const key of ['inverseScale', 'zero'] as const) {
    const [a, e] = [words(actual[key]), words(expected[key])]
    const i = e.findIndex((word, g) => word !== a[g])
    if (i >= 0) return `${key} of group ${i} is ${actual[key][i]}, expected ${expected[key][i]}`
  }
  const i = expected.codes.findIndex((code, at) => code !== actual.codes[at])
  return i < 0 ? undefined : `code ${i} is ${actual.codes[i]}, expected ${expected.codes[i]}`
}

async function compare(kernels: QuantizerKernels, c: Case, groupSize: number): Promise<string | undefined> {
  const settings = settingsOf(c, groupSize)
  const layout = layoutOf(c.shape, settings)
  const w = weightsOf(c.shape[0] * c.shape[1], c.size, c.seed)
  const actual = await runGroups(kernels, w, layout, settings)
  return difference(actual!, quantizeGroups(w, layout, settings))
}

const flags = fc.record({
  channelWise: fc.constantFrom(true, true, true, false),
  optimize: fc.constantFrom(true, true, true, false),
  roundZero: fc.boolean(),
})
const small = fc.record({
  groupSize: fc.constantFrom(8, 16, 24, 32, 40, 64, 72, 128, 256, 520),
  groups: fc.integer({ min: 1, max: 70 }),
  columns: fc.integer({ min: 1, max: 80 }),
  bits: fc.constantFrom(...PACKING_OF_BITS.keys()),
  axis: fc.constantFrom<0 | 1>(0, 1),
  grouped: fc.boolean(),
  flags,
  size: fc.constantFrom(0.02, 0.5, 3, 1000),
  seed: fc.integer({ min: 0, max: 2 ** 30 }),
})

const optimised = { channelWise: true, optimize: true, roundZero: false }
/** Long enough for every level of the sums: chunks in the matrix, rows in a group. */
const LARGE: readonly (readonly [string, Omit<Case, 'seed' | 'flags'>, number])[] = [
  ['4 bit, groups of 64', { shape: [300, 1024], bits: 4, axis: 1, grouped: true, size: 0.05 }, 64],
  ['2 bit, whole rows', { shape: [24, 9001], bits: 2, axis: 1, grouped: false, size: 0.6 }, 0],
  ['3 bit, columns of 4500', { shape: [4500, 45], bits: 3, axis: 0, grouped: false, size: 1 }, 0],
  ['1 bit, strided groups of 64', { shape: [128, 1000], bits: 1, axis: 0, grouped: true, size: 0.3 }, 64],
]

describe.each(DOORS)('%s', (_door, kernels) => {
  test('random matrices, settings and weights', async () => {
    await fc.assert(
      fc.asyncProperty(small, async ({ groupSize, groups, columns, ...rest }) => {
        const shape = rest.grouped ? ([groups, groupSize] as const) : ([groups, columns] as const)
        expect(await compare(kernels, { ...rest, shape }, groupSize)).toBeUndefined()
      }),
      { numRuns: 120 },
    )
  })

  test.each(LARGE)('%s', async (_name, c, groupSize) => {
    expect(await compare(kernels, { ...c, flags: optimised, seed: 7 }, groupSize)).toBeUndefined()
  })

  test.each([Number.NaN, Infinity, -Infinity])('%d is noticed wherever it stands', async (bad) => {
    for (const axis of [0, 1] as const) {
      const settings = settingsOf({ ...LARGE[0][1], axis, flags: optimised, seed: 1 }, 64)
      const w = weightsOf(64 * 33, 0.1, 1)
      w[64 * 33 - 1] = bad
      expect(await runGroups(kernels, w, layoutOf([33, 64], settings), settings)).toBeUndefined()
    }
  })
})

test('the result depends neither on the number of threads nor on the instruction set', async () => {
  const { door } = await openKernels()
  const settings = settingsOf({ ...LARGE[0][1], flags: optimised, seed: 3 }, 64)
  const w = weightsOf(512 * 2048, 0.05, 3)
  const layout = layoutOf([512, 2048], settings)
  const level = door.kernels.fb_level()
  door.setThreads(1)
  const expected = (await runGroups(quantizerKernels(door), w, layout, settings))!
  for (const [threads, isa] of [
    [2, level],
    [3, level],
    [3, 0],
  ]) {
    door.setThreads(threads)
    if (door.kind === 'native') door.kernels.fb_set_level(isa)
    const actual = (await runGroups(quantizerKernels(door), w, layout, settings))!
    expect(difference(actual, expected), `${threads} threads, level ${isa}`).toBeUndefined()
  }
  if (door.kind === 'native') door.kernels.fb_set_level(level)
})
