// EETQ with the compiled kernels gives the bytes that TypeScript gives: any floats, any shape, both byte orders, on both doors.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { rawTensor } from '../../src/core/dtypes.ts'
import { fromFloat32 } from '../../src/core/half.ts'
import type { QuantizerKernels } from '../../src/core/kernels.ts'
import { ARRANGEMENTS } from '../../src/methods/eetq/config.ts'
import { quantize } from '../../src/methods/eetq/quantize.ts'
import { stored } from '../../src/methods/eetq/stored.ts'
import { DOORS } from '../support/doors.ts'

const value = fc.oneof(
  fc.float({ min: -4, max: 4, noNaN: true }),
  fc.constantFrom(0, -0, 1, 0.5, 2 ** -24, 65504, -65504, 1 / 3, 127.5, -128),
  fc.float(),
)
const dtype = fc.constantFrom('F32' as const, 'F16' as const, 'BF16' as const)
const weight = fc.record({
  rows: fc.integer({ min: 1, max: 3 }),
  columns: fc.integer({ min: 1, max: 3 }),
  values: fc.array(value, { minLength: 1, maxLength: 300 }),
  dtype,
})

describe.each(DOORS)('%s', (_, kernels) => {
  test.each(Object.keys(ARRANGEMENTS))('%s: stored bytes of any weight', async (arrangement) => {
    const settings = { packing: ARRANGEMENTS[arrangement], allowNonFinite: true }
    await fc.assert(
      fc.asyncProperty(weight, async ({ rows, columns, values, dtype }) => {
        const shape = [rows * 64, columns * 64]
        const x = Float32Array.from(
          { length: shape[0] * shape[1] },
          (_, i) => values[(i * 7 + (i >> 6)) % values.length],
        )
        const tensor = rawTensor(dtype, shape, fromFloat32(x, dtype))
        const bytes = async (given?: QuantizerKernels) => {
          const quantized = await quantize({ name: 'a.weight', tensor, settings, kernels: given })
          const tensors = await stored.write('a.weight', quantized, settings, given)
          return tensors.map((t) => Buffer.from(t.tensor.data).toString('hex'))
        }
        expect(await bytes(kernels)).toEqual(await bytes())
      }),
      { numRuns: 30 },
    )
  })
})
