// Ranges and rounded quotients: the C++ kernels equal the TypeScript functions bit for bit on both doors.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { roundTo } from '../../src/core/half.ts'
import { groupRanges, type QuotientRule, quotientCodes } from '../../src/methods/groups.ts'
import { DOORS } from '../support/doors.ts'

const floats = fc.float32Array({ minLength: 1, maxLength: 500 })
const near = fc
  .array(fc.oneof(fc.integer({ min: -300, max: 300 }), fc.float({ min: -2, max: 2 })), { minLength: 1, maxLength: 300 })
  .map((values) => Float32Array.from(values, (v) => v / 2)) // many halves, so that ties decide
const x = fc.oneof(floats, near)
const size = fc.constantFrom(1, 3, 16, 64, 1000)
const rule = fc.record<QuotientRule>({
  arithmetic: fc.constantFrom('F32', 'F16', 'BF16'),
  rounding: fc.constantFrom('even', 'away'),
  low: fc.constantFrom(-128, 0),
  high: fc.constantFrom(3, 15, 127),
  offset: fc.constant(128),
  nan: fc.constantFrom(0, 3),
})
const step = fc.oneof(fc.constantFrom(0, 1, 0.5, 2 ** -149, 1e-8), fc.float({ noNaN: true }))
const bits = (values: Float32Array) => Array.from(new Uint32Array(values.buffer))

describe.each(DOORS)('%s', (_, kernels) => {
  test('ranges of any floats', async () => {
    await fc.assert(
      fc.asyncProperty(x, size, async (values, groupSize) => {
        const [expected, actual] = [await groupRanges(values, groupSize), await groupRanges(values, groupSize, kernels)]
        expect(bits(actual.low)).toEqual(bits(expected.low))
        expect(bits(actual.high)).toEqual(bits(expected.high))
        expect(actual.bad).toEqual(expected.bad)
      }),
      { numRuns: 200 },
    )
  })

  test('codes of any floats, steps and shifts', async () => {
    await fc.assert(
      fc.asyncProperty(x, size, rule, step, fc.option(step), async (values, groupSize, given, one, other) => {
        const { arithmetic } = given
        const groups = Math.ceil(values.length / groupSize)
        const inType = values.map((v) => roundTo(arithmetic, v))
        const meta = {
          step: new Float32Array(groups).fill(roundTo(arithmetic, one)),
          ...(other !== null && { shift: new Float32Array(groups).fill(roundTo(arithmetic, other)) }),
        }
        const expected = await quotientCodes(inType, groupSize, meta, given)
        expect(await quotientCodes(inType, groupSize, meta, given, kernels)).toEqual(expected)
      }),
      { numRuns: 400 },
    )
  })
})

test('halves go to the even neighbour, or away from zero; NaN has its own code', async () => {
  const values = Float32Array.of(0.5, 1.5, -0.5, -2.5, 0.49999997, -0.49999997, 300, -300, Number.NaN)
  const common = { arithmetic: 'F32', low: -128, high: 127, offset: 128 } as const
  const code = async (rounding: 'even' | 'away') =>
    Array.from(
      await quotientCodes(values, 9, { step: Float32Array.of(1) }, { ...common, rounding, nan: 127 }),
      (c) => c - 128,
    )
  expect(await code('even')).toEqual([0, 2, 0, -2, 0, 0, 127, -128, 127])
  expect(await code('away')).toEqual([1, 2, -1, -3, 0, 0, 127, -128, 127])
})
