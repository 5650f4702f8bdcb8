// Quanto with the compiled kernels gives the bytes that TypeScript gives: any floats, shape, type and optimiser, on both doors.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { rawTensor } from '../../src/core/dtypes.ts'
import { fromFloat32, toFloat32 } from '../../src/core/half.ts'
import type { QuantizerKernels } from '../../src/core/kernels.ts'
import type { QuantoSettings } from '../../src/methods/quanto/config.ts'
import { QTYPES } from '../../src/methods/quanto/qtypes.ts'
import { quantize } from '../../src/methods/quanto/quantize.ts'
import { stored } from '../../src/methods/quanto/stored.ts'
import { INPUT_TYPES, quantizedInputs } from '../../src/weights/quantized-input.ts'
import { DOORS } from '../support/doors.ts'

const value = fc.oneof(
  fc.float({ min: -2, max: 2, noNaN: true }),
  fc.constantFrom(0, -0, 1, 2 ** -24, 2 ** -130, 3e4, -3e4, 1 / 3, 0.15, -0.171),
)
const dtype = fc.constantFrom('F32' as const, 'F16' as const, 'BF16' as const)
const weight = fc.record({
  shape: fc.tuple(fc.integer({ min: 1, max: 9 }), fc.constantFrom(1, 7, 64, 129, 160, 288, 512)),
  values: fc.array(value, { minLength: 1, maxLength: 300 }),
  dtype,
})
const settings = (optimizer: QuantoSettings['optimizer'], tinygemm: boolean) =>
  fc.constantFrom(...QTYPES.values()).map(
    (qtype): QuantoSettings => ({
      qtype,
      activations: null,
      optimizer: qtype.kind === 'affine' ? optimizer : 'range',
      tinygemm,
    }),
  )
const anySettings = fc.oneof(settings('range', false), settings('range', true), settings('hqq', false))

describe.each(DOORS)('%s', (_, kernels) => {
  test('stored bytes of any weight', async () => {
    await fc.assert(
      fc.asyncProperty(weight, anySettings, async ({ shape, values, dtype }, given) => {
        const x = Float32Array.from(
          { length: shape[0] * shape[1] },
          (_, i) => values[(i * 7 + (i >> 5)) % values.length],
        )
        const tensor = rawTensor(dtype, shape, fromFloat32(x, dtype))
        const outcome = async (use?: QuantizerKernels) => {
          const quantized = await quantize({ name: 'a.weight', tensor, settings: given, kernels: use })
          const tensors = await stored.write('a.weight', quantized, given, use)
          return tensors.map((t) => `${t.name} ${t.tensor.dtype} ${Buffer.from(t.tensor.data).toString('hex')}`)
        }
        const [expected, actual] = await Promise.all([
          outcome().catch((e: Error) => [e.message]),
          outcome(kernels).catch((e: Error) => [e.message]),
        ])
        expect(actual).toEqual(expected)
      }),
      { numRuns: 150 },
    )
  })

  test('inputs in runs of any length, each by its scale', async () => {
    const scale = fc.oneof(
      fc.constantFrom(0, 2 ** -130, 1e-30, 1),
      fc.float({ min: Math.fround(1e-4), max: 1, noNaN: true }),
    )
    const inputs = fc.record({
      values: fc.array(value, { minLength: 1, maxLength: 90 }),
      scales: fc.array(scale, { minLength: 1, maxLength: 6 }),
      type: fc.constantFrom(...INPUT_TYPES),
    })
    await fc.assert(
      fc.asyncProperty(inputs, async ({ values, scales, type }) => {
        const size = values.length
        const x = Float32Array.from({ length: size * scales.length }, (_, i) => values[(i * 7) % size])
        const y = async (use?: QuantizerKernels) =>
          // A zero of e4m3fnuz has no sign in the definition.
          (await quantizedInputs(x, size, Float32Array.from(scales), type, use)).map((v) => (v === 0 ? 0 : v))
        expect(await y(kernels)).toEqual(await y())
      }),
      { numRuns: 150 },
    )
  })

  test('a weight of many groups, optimised until it no longer gets better', async () => {
    const x = Float32Array.from({ length: 300 * 256 }, (_, i) => Math.sin(i * i) * Math.cos(i) * (1 + (i % 7)))
    const tensor = rawTensor('F32', [300, 256], x)
    const given: QuantoSettings = { qtype: QTYPES.get('qint2')!, activations: null, optimizer: 'hqq', tinygemm: false }
    const shiftOf = async (use?: QuantizerKernels) =>
      toFloat32((await quantize({ name: 'a.weight', tensor, settings: given, kernels: use })).parts.shift)
    expect(await shiftOf(kernels)).toEqual(await shiftOf())
  })
})
