// What weights/ knows of a block must agree with what checkpoint/ measures: ggml's number, values and bytes.
import { expect, test } from 'vitest'
import { ggmlTypeNamed } from '../../src/checkpoint/gguf/types.ts'
import { AFFINE_BLOCK_SIZE, AFFINE_BLOCKS } from '../../src/weights/affine-blocks.ts'
import { SUPERBLOCKS } from '../../src/weights/superblock/index.ts'

const BLOCKS = [
  ...Object.entries(AFFINE_BLOCKS).map(([type, row]) => ({ type, elements: AFFINE_BLOCK_SIZE, ...row })),
  ...Object.entries(SUPERBLOCKS).map(([type, row]) => ({ type, ...row })),
]

test.each(BLOCKS)('$type', ({ type, id, elements, fields }) => {
  const row = ggmlTypeNamed(type)!
  const bytes = Object.values(fields).reduce((a, b) => a + b, 0)
  expect({ id, elements, bytes }).toEqual({ id: row.id, elements: row.elements, bytes: row.bytes })
})
