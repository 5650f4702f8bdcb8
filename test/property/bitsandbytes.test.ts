// The compiled quantisers equal their TypeScript oracles bit for bit, on both doors.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type DType, type RawTensor, rawTensor } from '../../src/core/dtypes.ts'
import { fromFloat32 } from '../../src/core/half.ts'
import { type BitsAndBytesSettings, BLOCK_SIZES } from '../../src/methods/bitsandbytes/config.ts'
import { quantize } from '../../src/methods/bitsandbytes/quantize.ts'
import { stored } from '../../src/methods/bitsandbytes/stored.ts'
import { lookupBounds } from '../../src/weights/tables.ts'
import { DOORS } from '../support/doors.ts'
import { fixtureTensors } from '../support/fixtures.ts'

/** Any finite float32 bits, small ones, and the bounds of both tables: where ties and roundings are decided. */
const bounds = [...lookupBounds('nf4'), ...lookupBounds('fp4')]
const value = fc.oneof(
  { weight: 6, arbitrary: fc.float({ min: -4, max: 4, noNaN: true }) },
  { weight: 1, arbitrary: fc.float({ min: -65504, max: 65504, noNaN: true }) },
  { weight: 2, arbitrary: fc.constantFrom(0, -0, 1, -1, 2 ** -24, -(2 ** -25), 1e-38, 65519, ...bounds) },
)
const dtype = fc.constantFrom<DType>('F32', 'F16', 'BF16')
const settings = fc.oneof(
  fc.record({
    kind: fc.constant('4bit' as const),
    quantType: fc.constantFrom('nf4' as const, 'fp4' as const),
    blockSize: fc.constantFrom(...BLOCK_SIZES),
    doubleQuant: fc.boolean(),
    storage: fc.constant<DType>('U8'),
  }),
  fc.record({ kind: fc.constant('int8' as const), outlierThreshold: fc.constant(6) }),
)

/** A weight whose values repeat a short random list at random scales: large enough for many blocks, small enough to shrink. */
const weight = fc
  .record({
    rows: fc.integer({ min: 1, max: 40 }),
    columns: fc.integer({ min: 1, max: 300 }),
    values: fc.array(value, { minLength: 1, maxLength: 200 }),
    scales: fc.array(fc.constantFrom(1, 0.5, 1e-3, 1e-6, 0), { minLength: 1, maxLength: 7 }),
    dtype,
  })
  .map(({ rows, columns, values, scales, dtype }): RawTensor => {
    const x = new Float32Array(rows * columns)
    for (let i = 0; i < x.length; i++)
      x[i] = values[(i * 7 + (i >> 5)) % values.length] * scales[(i >> 6) % scales.length]
    return { dtype, shape: [rows, columns], data: fromFloat32(x, dtype as 'F32') }
  })

/** Every stored byte of the quantised weight, or why there is none (bfloat16 may round up beyond float16). */
async function outcome(...args: Parameters<typeof storedHex>): Promise<string[]> {
  return storedHex(...args).catch((error: Error) => [error.message])
}

/** Every stored byte of the quantised weight. */
async function storedHex(tensor: RawTensor, s: BitsAndBytesSettings, kernels?: (typeof DOORS)[number][1]) {
  const quantized = await quantize({ name: 'w.weight', tensor, settings: s, kernels })
  const tensors = await stored.write('w.weight', quantized, s, kernels)
  return tensors.map(
    (t) => `${t.name} ${t.tensor.dtype} [${t.tensor.shape}] ${Buffer.from(t.tensor.data).toString('hex')}`,
  )
}

const quant4 = [...(await fixtureTensors('bitsandbytes/quant4.safetensors'))].filter(([name]) =>
  name.endsWith('.input'),
)

describe.each(DOORS)('%s', (_, kernels) => {
  test('stored bytes of any weight and settings', async () => {
    await fc.assert(
      fc.asyncProperty(weight, settings, async (tensor, s) => {
        expect(await outcome(tensor, s, kernels)).toEqual(await outcome(tensor, s))
      }),
      { numRuns: 150 },
    )
  })

  test('any float32 bits, subnormals included, in 4 bits', async () => {
    const x = fc.float32Array({ minLength: 1, maxLength: 700, noNaN: true, noDefaultInfinity: true })
    await fc.assert(
      fc.asyncProperty(x, fc.constantFrom('nf4' as const, 'fp4' as const), async (values, quantType) => {
        const tensor = rawTensor('F32', [1, values.length], values)
        const s = { kind: '4bit', quantType, blockSize: 64, doubleQuant: true, storage: 'U8' } as const
        expect(await storedHex(tensor, s, kernels)).toEqual(await storedHex(tensor, s))
      }),
      { numRuns: 150 },
    )
  })

  test.each(quant4)('%s in LLM.int8', async (_name, tensor) => {
    const s = { kind: 'int8', outlierThreshold: 6 } as const
    expect(await storedHex(tensor, s, kernels)).toEqual(await storedHex(tensor, s))
  })

  test('every half is rounded to itself, every float between to its nearest, as in the oracle', async () => {
    const halves = Float32Array.from({ length: 2 * 31743 }, (_, i) => {
      const bits = new Float32Array(1)
      new Uint32Array(bits.buffer)[0] = 0x33000000 + i * 8192 - (i % 3) * 4096
      return Math.min(bits[0], 65519)
    })
    const tensor = rawTensor('F32', [2, 31743], halves)
    const s = { kind: 'int8', outlierThreshold: 6 } as const
    expect(await storedHex(tensor, s, kernels)).toEqual(await storedHex(tensor, s))
  })

  const BAD: [string, number, BitsAndBytesSettings['kind'], string][] = [
    ['NaN', Number.NaN, '4bit', 'element 70 is NaN'],
    ['infinity', -Infinity, '4bit', 'element 70 is -Infinity'],
    ['NaN', Number.NaN, 'int8', 'element 70 is NaN'],
    ['float16 overflow', 65520, 'int8', 'element 70 is 65520, beyond'],
  ]
  test.each(BAD)('%s (%d) is refused in %s', async (_name, bad, kind, message) => {
    const x = new Float32Array(128).fill(0.5)
    x[70] = bad
    const s = (
      kind === 'int8'
        ? { kind, outlierThreshold: 6 }
        : { kind, quantType: 'nf4', blockSize: 64, doubleQuant: false, storage: 'U8' }
    ) as BitsAndBytesSettings
    await expect(storedHex(rawTensor('F32', [2, 64], x), s, kernels)).rejects.toThrow(message)
  })
})
