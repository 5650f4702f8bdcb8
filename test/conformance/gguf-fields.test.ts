// The fields that weights/ knows inside a block must add up to the block that checkpoint/ measures.
import { expect, test } from 'vitest'
import { ggmlTypeNamed } from '../../src/checkpoint/gguf/types.ts'
import { blockSize, isFloatType, TENSOR_TYPES } from '../../src/methods/gguf/file-types.ts'
import { AFFINE_BLOCKS } from '../../src/weights/affine-blocks.ts'
import { SUPERBLOCK_BYTES, SUPERBLOCK_FIELDS } from '../../src/weights/superblock.ts'

const FIELDS: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  ...Object.fromEntries(Object.entries(AFFINE_BLOCKS).map(([type, { fields }]) => [type, fields])),
  ...SUPERBLOCK_FIELDS,
}

test.each(TENSOR_TYPES.filter((type) => !isFloatType(type)))('%s', (type) => {
  const row = ggmlTypeNamed(type)!
  const bytes = Object.values(FIELDS[type]).reduce((a, b) => a + b, 0)
  expect({ elements: blockSize(type), bytes }).toEqual({ elements: row.elements, bytes: row.bytes })
  if (type in SUPERBLOCK_BYTES) expect(SUPERBLOCK_BYTES[type as keyof typeof SUPERBLOCK_BYTES]).toBe(row.bytes)
})
