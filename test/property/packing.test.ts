// Every packing record: unpack(pack(x)) = x, and the C++ kernels equal the TypeScript functions on both doors.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  PACKINGS,
  type Packing,
  pack,
  packCodes,
  packings,
  packingUnit,
  registerPacking,
  unpack,
  unpackCodes,
} from '../../src/weights/packing.ts'
import { DOORS } from '../support/doors.ts'

/** Tiles of 2 rows x 32 columns, rows swapped in pairs inside: an order that nests both axes twice. */
const TILES: Packing = {
  name: 'tiles',
  bits: 8,
  word: 'U8',
  order: 'nested',
  shifts: [0],
  axes: [
    { axis: 'column', step: 32 },
    { axis: 'row', step: 2 },
    { axis: 'column', step: 1, count: 16 },
    { axis: 'row', step: 1, count: 2 },
    { axis: 'column', step: 16, count: 2 },
  ],
}
registerPacking(TILES)
const walked = packings().map((p): [string, Packing] => [p.name, p])

const matrix = fc.record({
  rows: fc.integer({ min: 1, max: 70 }),
  columns: fc.integer({ min: 1, max: 300 }),
  seed: fc.integer({ min: 0, max: 0xffff }),
})

/** The shape, enlarged to what the packing takes. */
function fitted({ rows, columns, seed }: { rows: number; columns: number; seed: number }, packing: Packing) {
  const unit = packingUnit(packing)
  return {
    rows: Math.ceil(rows / unit.rows) * unit.rows,
    columns: Math.ceil(columns / unit.columns) * unit.columns,
    seed,
  }
}

/** Codes of all widths, from a seed: an array of 20,000 arbitraries would be slow to make. */
function codesOf({ rows, columns, seed }: { rows: number; columns: number; seed: number }, bits: number): Uint8Array {
  let state = seed + 1
  return Uint8Array.from({ length: rows * columns }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state >>> (32 - bits)
  })
}

describe.each(walked)('%s', (_name, packing) => {
  test('unpack reverses pack', () => {
    fc.assert(
      fc.property(matrix, (any) => {
        const shape = fitted(any, packing)
        const codes = codesOf(shape, packing.bits)
        const packed = pack(packing, codes, shape.rows, shape.columns)
        expect(unpack(packing, packed, shape.rows, shape.columns)).toEqual(codes)
      }),
      { numRuns: 40 },
    )
  })

  test.each(DOORS)('%s packs and unpacks the same bytes', async (_door, kernels) => {
    await fc.assert(
      fc.asyncProperty(matrix, fc.integer({ min: 0, max: 2 ** packing.bits - 1 }), async (any, padCode) => {
        const shape = fitted(any, packing)
        const { rows, columns } = shape
        const codes = codesOf(shape, packing.bits)
        const expected = pack(packing, codes, rows, columns, padCode)
        const packed = await packCodes(packing, codes, rows, columns, { padCode, kernels })
        expect(Buffer.from(packed).equals(expected)).toBe(true)
        expect(Buffer.from(await unpackCodes(packing, packed, rows, columns, kernels)).equals(codes)).toBe(true)
      }),
      { numRuns: 40 },
    )
  })
})

test('a nested order is read from its loops', () => {
  const codes = Uint8Array.from({ length: 64 }, (_, i) => i)
  expect([...pack(TILES, codes, 2, 32)].slice(0, 8)).toEqual([0, 16, 32, 48, 1, 17, 33, 49])
  expect(() => pack(TILES, codes, 4, 16)).toThrow('4 x 16 codes do not fit the packing tiles')
})

test.each(DOORS)('%s: one row of many codes, an odd number, is split among units', async (_door, kernels) => {
  const codes = codesOf({ rows: 1, columns: 100_001, seed: 5 }, 4)
  const expected = pack(PACKINGS.bnb4, codes, 1, codes.length, 7)
  const packed = await packCodes(PACKINGS.bnb4, codes, 1, codes.length, { padCode: 7, kernels })
  expect(Buffer.from(packed).equals(expected)).toBe(true)
  expect(packed.at(-1)! & 15).toBe(7)
  expect(Buffer.from(await unpackCodes(PACKINGS.bnb4, packed, 1, codes.length, kernels)).equals(codes)).toBe(true)
})

test.each<[Partial<Packing>, string]>([
  [{ name: 'bnb4' }, 'the name is taken'],
  [{ bits: 9 }, 'its codes have 9 bits, expected 1 to 8'],
  [{ shifts: [0, 2] }, 'two slots overlap'],
  [{ shifts: [0, 6] }, 'slots of 4 bits at 0, 6 do not lie in a word of 8 bits'],
  [{ order: 'nested' }, 'a nested order, and no other, has axes'],
])('a packing with %j is refused', (wrong, problem) => {
  const legal: Packing = { name: 'own', bits: 4, word: 'U8', order: 'neighbours', shifts: [0, 4] }
  expect(() => registerPacking({ ...legal, ...wrong })).toThrow(problem)
})
