import { describe, expect, test } from 'vitest'
import { rawTensor } from '../core/dtypes.ts'
import { UnsupportedError } from '../core/errors.ts'
import type { Scheme } from '../weights/scheme.ts'
import { decode, denseWeight, type QuantizedWeight } from '../weights/weight.ts'
import { reorderRows, rowOrder } from './ops.ts'

const ROWS = 8
const COLUMNS = 4
const random = (count: number, limit: number) => Uint8Array.from({ length: count }, (_, i) => (i * 37 + 11) % limit)
const floats = (count: number) => Float32Array.from({ length: count }, (_, i) => Math.sin(i + 1))

const codes = rawTensor('U8', [ROWS, COLUMNS], random(ROWS * COLUMNS, 16))
const WEIGHTS: Record<string, QuantizedWeight> = {
  dense: denseWeight(rawTensor('F32', [ROWS, COLUMNS], floats(ROWS * COLUMNS))),
  affine: {
    scheme: { kind: 'affine', bits: 4, group: { kind: 'flat', size: 2 }, zero: 'shift' },
    shape: [ROWS, COLUMNS],
    parts: { codes, scale: rawTensor('F32', [16], floats(16)), shift: rawTensor('F32', [16], floats(16)) },
  },
  'nested lookup': {
    scheme: { kind: 'lookup', bits: 4, table: 'nf4', group: { kind: 'flat', size: 4 }, nestedSize: 3 },
    shape: [ROWS, COLUMNS],
    parts: {
      codes,
      scaleCodes: rawTensor('U8', [ROWS], random(ROWS, 256)),
      nestedScale: rawTensor('F32', [3], floats(3)),
      nestedTable: rawTensor('F32', [256], floats(256)),
      nestedOffset: rawTensor('F32', [1], floats(1)),
    },
  },
}

/** Rows of the decoded weight. */
function rowsOf(weight: QuantizedWeight): number[][] {
  const values = decode(weight)
  return Array.from({ length: ROWS }, (_, r) => [...values.subarray(r * COLUMNS, (r + 1) * COLUMNS)])
}

test('two heads of four rows: pairs (i, i + 2) of a head come to lie side by side', () => {
  expect([...rowOrder({ kind: 'permuteRope', heads: 2 }, ROWS, false)]).toEqual([0, 2, 1, 3, 4, 6, 5, 7])
})

describe.each(Object.keys(WEIGHTS))('%s', (name) => {
  const weight = WEIGHTS[name]
  const op = { kind: 'permuteRope', heads: 1 } as const

  test('the values of moved rows are those of the rows', () => {
    const order = rowOrder(op, ROWS, false)
    expect(rowsOf(reorderRows(weight, order))).toEqual([...order].map((row) => rowsOf(weight)[row]))
  })

  test('undo undoes', () => {
    const moved = reorderRows(weight, rowOrder(op, ROWS, false))
    expect(rowsOf(reorderRows(moved, rowOrder(op, ROWS, true)))).toEqual(rowsOf(weight))
  })
})

test.each<[string, Scheme]>([
  ['strided groups', { kind: 'affine', bits: 4, group: { kind: 'strided', size: 2 }, zero: 'shift' }],
  ['groups longer than a row', { kind: 'affine', bits: 4, group: { kind: 'flat', size: 8 }, zero: 'shift' }],
  ['one group', { kind: 'affine', bits: 4, group: { kind: 'tensor', size: 32 }, zero: 'shift' }],
])('%s cannot follow rows', (_, scheme) => {
  const attempt = () =>
    reorderRows({ ...WEIGHTS.affine, scheme }, rowOrder({ kind: 'permuteRope', heads: 2 }, ROWS, true))
  expect(attempt).toThrow(UnsupportedError)
})
