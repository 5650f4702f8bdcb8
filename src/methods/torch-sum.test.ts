import { expect, test } from 'vitest'
import { torchSum } from './torch-sum.ts'

test('fewer than 8 values go through four accumulators', () => {
  // a0 = 1e8 - 1e8, a1 = a2 = a3 = 1; left to right it would be 0
  expect(torchSum(Float32Array.of(1e8, 1, 1, 1, -1e8))).toBe(3)
})

test('values behind the last full run of 8 are added first', () => {
  // 8 lanes hold 1e8 and seven zeros, the tail 3 + 3 = 6 is not lost one by one
  const values = Float32Array.of(1e8, 0, 0, 0, 0, 0, 0, 0, 3, 3)
  expect(torchSum(values)).toBe(Math.fround(1e8 + 6))
  expect(Math.fround(Math.fround(1e8 + 3) + 3)).toBe(1e8)
})

test('long sums cascade: 70,000 equal values lose nothing', () => {
  expect(torchSum(new Float32Array(70_000).fill(0.1))).toBeCloseTo(7000, 2)
})
