import { expect, test } from 'vitest'
import { rawTensor } from '../core/dtypes.ts'
import { reExpress } from './re-express.ts'
import type { AffineScheme } from './scheme.ts'
import { decode, type QuantizedWeight } from './weight.ts'

function weightOf(scale: number, zeroPoint: number, scheme: Partial<AffineScheme> = {}): QuantizedWeight {
  return {
    scheme: { kind: 'affine', bits: 4, group: { kind: 'flat', size: 64 }, zero: 'zeroPoint', ...scheme },
    shape: [1, 64],
    parts: {
      codes: rawTensor(
        'U8',
        [1, 64],
        Uint8Array.from({ length: 64 }, (_, i) => i & 15),
      ),
      scale: rawTensor('F32', [1], Float32Array.of(scale)),
      zeroPoint: rawTensor('F32', [1], Float32Array.of(zeroPoint)),
    },
  }
}

test('a group of 64 becomes two blocks with its codes, and the change that is told is the change that is there', () => {
  const weight = weightOf(0.0123, 7.3)
  const { weight: blocks, largestChange } = reExpress(weight, 'Q4_1')!
  expect(blocks.parts.codes.data).toEqual(weight.parts.codes.data)
  const [a, b] = [decode(weight), decode(blocks)]
  const change = a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i])), 0) / 0.0123
  expect(largestChange).toBeGreaterThan(0)
  expect(change / largestChange).toBeCloseTo(1, 2)
})

test('a group without scale stays what it is', () => {
  expect(reExpress(weightOf(0, 3), 'Q4_1')!.largestChange).toBe(0)
})

test('what Q4_1 cannot say is not written as such', () => {
  expect(reExpress(weightOf(7e4, 1), 'Q4_1')).toBeUndefined() // beyond float16
  expect(reExpress(weightOf(1, 1, { bits: 8 }), 'Q4_1')).toBeUndefined()
  expect(reExpress(weightOf(1, 1, { group: { kind: 'strided', size: 64 } }), 'Q4_1')).toBeUndefined()
  expect(reExpress(weightOf(1, 1, { group: { kind: 'flat', size: 48 } }), 'Q4_1')).toBeUndefined()
})
