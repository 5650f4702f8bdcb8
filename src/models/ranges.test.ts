// Every range of a view is that range of the whole, however the tensor comes about.
import { expect, test } from 'vitest'
import type { Checkpoint, StoredTensor } from '../checkpoint/types.ts'
import { rawTensor } from '../core/dtypes.ts'
import { WeightError } from '../core/errors.ts'
import { castTensor } from '../core/half.ts'
import { type RangeReader, ViewRanges } from './ranges.ts'

const ROWS = 6
const values = Float32Array.from({ length: ROWS * 4 }, (_, i) => i / 8 - 1)
const bytes = new Uint8Array(values.buffer)
const tensor: StoredTensor = {
  name: 'w',
  dtype: 'F32',
  shape: [ROWS, 4],
  file: 'f',
  offset: 0,
  byteLength: bytes.length,
}

const source: Checkpoint['read'] = async (_tensor, from = 0, to = bytes.length, into) => {
  const part = bytes.subarray(from, to)
  into?.set(part)
  return into ? into.subarray(0, part.length) : part.slice()
}

const ORDER = Uint32Array.of(1, 0, 2, 5, 3, 4)
const inOrder = new Uint8Array(bytes.length)
ORDER.forEach((row, to) => {
  inOrder.set(bytes.subarray(16 * row, 16 * (row + 1)), 16 * to)
})
const halves = castTensor('w', rawTensor('F32', [ROWS, 4], inOrder), 'F16').data

test.each<[string, (ranges: ViewRanges) => RangeReader, Uint8Array]>([
  ['stored', (ranges) => ranges.stored(tensor), bytes],
  ['rows in another order', (ranges) => ranges.reordered(ranges.stored(tensor), 16, ORDER), inOrder],
  [
    'and cast',
    (ranges) => ranges.cast('w', ranges.reordered(ranges.stored(tensor), 16, ORDER), ['F32', 'F16']),
    halves,
  ],
  ['computed whole', (ranges) => ranges.whole({ ...tensor, byteLength: halves.length }, async () => halves), halves],
])('%s', async (_, made, whole) => {
  const ranges = new ViewRanges(source)
  ranges.set('w', made(ranges))
  for (let from = 0; from <= whole.length; from++)
    for (const into of [undefined, new Uint8Array(whole.length)])
      for (let to = from; to <= whole.length; to++)
        expect(
          Buffer.compare(await ranges.read(tensor, from, to, into), whole.subarray(from, to)),
          `${from}-${to}`,
        ).toBe(0)
})

test('ranges that are read at once do not share memory', async () => {
  const ranges = new ViewRanges(source)
  const read = ranges.reordered(ranges.stored(tensor), 16, ORDER)
  const parts = await Promise.all([read(0, 48), read(48, 96), read(0, 96)])
  expect(Buffer.concat(parts.slice(0, 2))).toEqual(Buffer.from(inOrder))
  expect(Buffer.from(parts[2])).toEqual(Buffer.from(inOrder))
})

test('a value beyond float16 is refused by its number in the whole tensor', async () => {
  const large = new Uint8Array(Float32Array.of(1, Number.POSITIVE_INFINITY, 2, 7e4).buffer)
  const ranges = new ViewRanges(async (_tensor, from, to) => large.subarray(from, to))
  const read = ranges.cast('w', ranges.stored(tensor), ['F32', 'F16'])
  expect(await read(0, 6)).toHaveLength(6)
  await expect(read(4, 8)).rejects.toThrow(WeightError)
  await expect(read(4, 8)).rejects.toMatchObject({ fields: { tensor: 'w', index: 3, actual: 70_000 } })
})
