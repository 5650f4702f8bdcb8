import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { memoryFiles, memorySource } from '../../../test/support/memory-files.ts'
import { FileError } from '../../core/errors.ts'
import { openCheckpoint } from '../open.ts'
import { reverseWords } from './cursor.ts'
import {
  GgufKeys,
  type GgufMetadata,
  type GgufValue,
  ggufF32,
  ggufString,
  ggufStrings,
  ggufU16,
  ggufU32,
} from './metadata.ts'
import { readGgufHeader } from './reader.ts'
import { GGML_TYPES, ggmlTypeNamed } from './types.ts'
import { type GgufEntry, ggufLayout } from './writer.ts'

const FOLDER = resolve(import.meta.dirname, '../../../test/fixtures/gguf/models')
const bytesOf = (name: string) => new Uint8Array(readFileSync(join(FOLDER, name)))
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

interface ListedKey {
  key: string
  types: string[]
  value?: unknown
  same_as?: string
}
interface Listed {
  file: string | null
  data_offset: number
  kv: ListedKey[]
  tensors: { name: string; dims: number[]; type: string; offset: number; bytes: number; sha256: string }[]
}
const listed = JSON.parse(readFileSync(join(FOLDER, 'models.json'), 'utf8')) as {
  models: Record<string, { files: Record<string, Listed> }>
}
const stored = Object.values(listed.models).flatMap(({ files }) =>
  Object.values(files)
    .filter((f): f is Listed & { file: string } => f.file !== null)
    .map((f) => ({ ...f, kv: f.kv.map((kv) => resolved(kv, files)) })),
)

/** Long values are listed once, under the file that `same_as` names. */
function resolved({ same_as, ...kv }: ListedKey, files: Record<string, Listed>): ListedKey {
  return same_as ? files[same_as].kv.find(({ key }) => key === kv.key)! : kv
}

const TYPE_NAMES: Record<string, string> = {
  u32: 'UINT32',
  i32: 'INT32',
  f32: 'FLOAT32',
  string: 'STRING',
  bool: 'BOOL',
}

/** A value as models.json lists it. */
function asListed(value: GgufValue): { types: string[]; value: unknown } {
  if (value.type === 'array') {
    const types = ['ARRAY', TYPE_NAMES[value.element]]
    return { types, value: Array.from(value.value as ArrayLike<unknown>) }
  }
  const types = [TYPE_NAMES[value.type]]
  if (value.type !== 'f32') return { types, value: value.value }
  return { types, value: { value: value.value, bits: new Uint32Array(Float32Array.of(value.value).buffer)[0] } }
}

/** A whole file with `data(i)` as the bytes of tensor i. */
function build(metadata: GgufMetadata, entries: readonly GgufEntry[], data = (i: number) => i + 1): Uint8Array {
  const layout = ggufLayout(metadata, entries)
  const file = new Uint8Array(layout.total)
  file.set(layout.header)
  entries.forEach((_, i) => {
    file.fill(data(i), layout.offsets[i], layout.offsets[i] + layout.sizes[i])
  })
  return file
}

describe.each(stored)('$file', (expected) => {
  test('keys, table and bytes are those that the reference listed', async () => {
    const bytes = bytesOf(expected.file)
    const checkpoint = await openCheckpoint(memoryFiles({ [expected.file]: bytes }, expected.file))
    const keys = [...checkpoint.metadata].map(([key, value]) => ({ key, ...asListed(value as GgufValue) }))
    expect(keys).toEqual(expected.kv)
    const tensors = [...checkpoint.tensors.values()]
    expect(
      tensors.map((t) => ({
        name: t.name,
        dims: [...t.shape].reverse(),
        type: t.dtype,
        offset: t.offset - expected.data_offset,
        bytes: t.byteLength,
      })),
    ).toEqual(expected.tensors.map(({ sha256: _, ...rest }) => rest))
    const hashes = []
    for (const tensor of tensors) hashes.push(sha256(await checkpoint.read(tensor)))
    expect(hashes).toEqual(expected.tensors.map((t) => t.sha256))
  })

  test('the header written again is the same', async () => {
    const bytes = bytesOf(expected.file)
    const header = await readGgufHeader(memorySource(expected.file, bytes))
    const entries = header.tensors.map((t) => ({ name: t.name, type: t.dtype, shape: t.shape }))
    const layout = ggufLayout(header.metadata, entries)
    expect(sha256(layout.header)).toBe(sha256(bytes.subarray(0, header.dataStart)))
    expect(layout.offsets).toEqual(header.tensors.map((t) => t.offset))
    expect(layout.total).toBe(bytes.length)
  })
})

test('every type is a row whose wide fields lie inside its block', () => {
  expect(GGML_TYPES.map((t) => t.id)).toEqual([...new Set(GGML_TYPES.map((t) => t.id))])
  for (const type of GGML_TYPES)
    for (const [offset, width, count] of type.wide ?? []) expect(offset + width * count).toBeLessThanOrEqual(type.bytes)
  expect(ggmlTypeNamed('Q6_K')).toMatchObject({ id: 14, elements: 256, bytes: 210 })
})

test('a string that is no UTF-8 and a NaN keep their bytes', async () => {
  const raw = new Uint8Array(8 + 2)
  raw.set([2, 0, 0, 0, 0, 0, 0, 0, 0xe2, 0x96])
  const nan = new Uint8Array(new Uint32Array([0x7fa00001]).buffer)
  const metadata: GgufMetadata = new Map<string, GgufValue>([
    ['half', { type: 'string', value: '\ufffd', raw }],
    ['nan', { type: 'f32', value: Number.NaN, raw: nan }],
    ['bom', ggufString('\ufeffa')],
  ])
  const file = build(metadata, [])
  const read = await readGgufHeader(memorySource('x.gguf', file))
  expect(read.metadata.get('bom')).toEqual(ggufString('\ufeffa'))
  expect(build(read.metadata, [])).toEqual(file)
})

test('nested arrays and every scalar type come back', async () => {
  const metadata: GgufMetadata = new Map<string, GgufValue>([
    ['u8', { type: 'u8', value: 255 }],
    ['i16', { type: 'i16', value: -2 }],
    ['u64', { type: 'u64', value: 2n ** 63n }],
    ['i64', { type: 'i64', value: -5n }],
    ['f64', { type: 'f64', value: 0.1 }],
    ['bools', { type: 'array', element: 'bool', value: [true, false] }],
    ['empty', ggufStrings([])],
    [
      'nested',
      {
        type: 'array',
        element: 'array',
        value: [
          { type: 'array', element: 'u16', value: Uint16Array.of(1, 2) },
          { type: 'array', element: 'string', value: ['a'] },
        ],
      },
    ],
  ])
  const read = await readGgufHeader(memorySource('x.gguf', build(metadata, [])))
  expect(read.metadata).toEqual(metadata)
})

/** The same file in big-endian order: what a converter on such a machine writes. */
function bigEndian(values: [string, string][], data: Uint8Array, type: number, dims: number[]): Uint8Array {
  const parts: Uint8Array[] = []
  const number = (value: number, width: number) => {
    const bytes = new Uint8Array(width)
    new DataView(bytes.buffer).setUint32(width - 4, value)
    parts.push(bytes)
  }
  const text = (value: string) => {
    number(value.length, 8)
    parts.push(new TextEncoder().encode(value))
  }
  text('')
  parts[0] = new TextEncoder().encode('GGUF')
  parts.length = 1
  number(3, 4)
  number(1, 8)
  number(values.length, 8)
  for (const [key, value] of values) {
    text(key)
    number(8, 4)
    text(value)
  }
  text('w')
  number(dims.length, 4)
  for (const n of dims) number(n, 8)
  number(type, 4)
  number(0, 8)
  const header = Buffer.concat(parts)
  const file = new Uint8Array(Math.ceil(header.length / 32) * 32 + data.length)
  file.set(header)
  file.set(data, file.length - data.length)
  return file
}

test('a big-endian file reads as its little-endian twin, ranges inside blocks included', async () => {
  const little = Uint8Array.from({ length: 36 }, (_, i) => i)
  const big = little.slice()
  reverseWords(big.subarray(0, 2), 2)
  reverseWords(big.subarray(18, 20), 2)
  const file = bigEndian([['general.architecture', 'llama']], big, 2, [32, 2])
  const checkpoint = await openCheckpoint(memoryFiles({ 'b.gguf': file }))
  expect(checkpoint.metadata).toEqual(new Map([['general.architecture', ggufString('llama')]]))
  const tensor = checkpoint.tensors.get('w')!
  expect(tensor).toMatchObject({ dtype: 'Q4_0', shape: [2, 32], byteLength: 36 })
  expect(await checkpoint.read(tensor)).toEqual(little)
  expect(await checkpoint.read(tensor, 17, 21)).toEqual(little.slice(17, 21))
})

test('a type whose big-endian form is undefined is refused by name', async () => {
  const file = bigEndian([], new Uint8Array(66), 16, [256])
  const checkpoint = await openCheckpoint(memoryFiles({ 'b.gguf': file }))
  await expect(checkpoint.read(checkpoint.tensors.get('w')!)).rejects.toThrow(/IQ2_XXS in a big-endian file/)
})

function splitModel(count: number, names: string[]): Record<string, Uint8Array> {
  const files: Record<string, Uint8Array> = {}
  for (let i = 0; i < count; i++) {
    const metadata: GgufMetadata = new Map<string, GgufValue>([
      ['split.no', ggufU16(i)],
      ['split.count', ggufU16(count)],
      ['split.tensors.count', { type: 'i32', value: names.length }],
      ...(i === 0 ? [['general.architecture', ggufString('llama')] as [string, GgufValue]] : []),
    ])
    const file = `m-${String(i + 1).padStart(5, '0')}-of-${String(count).padStart(5, '0')}.gguf`
    files[file] = build(metadata, [{ name: names[i], type: 'F32', shape: [2] }], () => i)
  }
  return files
}

test('any file of a split model opens all of them', async () => {
  const files = splitModel(3, ['a', 'b', 'c'])
  for (const single of [...Object.keys(files), undefined]) {
    const checkpoint = await openCheckpoint(memoryFiles(files, single))
    expect([...checkpoint.tensors.keys()]).toEqual(['a', 'b', 'c'])
    expect(checkpoint.metadata.get('general.architecture')).toEqual(ggufString('llama'))
    expect(await checkpoint.read(checkpoint.tensors.get('b')!)).toEqual(new Uint8Array(8).fill(1))
  }
})

test('a split model that lacks a file, holds a name twice or disagrees about its count is refused', async () => {
  const files = splitModel(3, ['a', 'b', 'c'])
  const { 'm-00002-of-00003.gguf': _, ...two } = files
  await expect(openCheckpoint(memoryFiles(two, 'm-00001-of-00003.gguf'))).rejects.toThrow(
    /split into 3 files and "m-00002-of-00003.gguf" is missing/,
  )
  await expect(openCheckpoint(memoryFiles(splitModel(2, ['a', 'a'])))).rejects.toThrow(/in two files of the split/)
  const alone = { 'renamed.gguf': files['m-00001-of-00003.gguf'] }
  await expect(openCheckpoint(memoryFiles(alone))).rejects.toThrow(/says it is one of 3 files, 1 were found/)
})

test('a folder with several models asks which one', async () => {
  const file = build(new Map(), [])
  await expect(openCheckpoint(memoryFiles({ 'a.gguf': file, 'b.gguf': file }))).rejects.toThrow(/several GGUF models/)
})

test('a file whose key says 128 and whose data is aligned to 32 is read, with a warning', async () => {
  const entries = [
    { name: 'a', type: 'F32', shape: [8] },
    { name: 'b', type: 'F32', shape: [8] },
  ]
  const file = build(new Map<string, GgufValue>([['general.alignmenX', ggufU32(128)]]), entries)
  file[24 + 8 + 16] = 't'.charCodeAt(0)
  const checkpoint = await openCheckpoint(memoryFiles({ 'x.gguf': file }))
  expect(await checkpoint.read(checkpoint.tensors.get('b')!)).toEqual(new Uint8Array(32).fill(2))
  expect(checkpoint.warnings).toEqual([expect.stringContaining('is 128, its data is aligned to 32')])
})

describe('damage is refused with the rule that it breaks', () => {
  const good = () =>
    build(
      new Map<string, GgufValue>([
        ['general.name', ggufString('x')],
        ['n', ggufU32(1)],
        ['f', ggufF32(0.5)],
      ]),
      [
        { name: 'a', type: 'Q4_0', shape: [2, 32] },
        { name: 'b', type: 'F32', shape: [4] },
      ],
    )
  const open = (bytes: Uint8Array) => openCheckpoint(memoryFiles({ 'x.gguf': bytes }))
  const damaged = (change: (bytes: Uint8Array, view: DataView) => void) => {
    const bytes = good()
    change(bytes, new DataView(bytes.buffer))
    return bytes
  }
  /** Where the table begins: after header 24, three keys. */
  const TABLE = 24 + (8 + 12 + 4 + 8 + 1) + (8 + 1 + 4 + 4) * 2
  const cases: [string, RegExp, Uint8Array][] = [
    ['another magic', /begin with the letters GGUF/, damaged((b) => b.set([0x47, 0x47, 0x4d, 0x4c]))],
    ['version 1', /version v1/, damaged((_, v) => v.setUint32(4, 1, true))],
    ['version 4', /unknown version 4/, damaged((_, v) => v.setUint32(4, 4, true))],
    [
      'a count of tensors beyond the limit',
      /tensors, the limit/,
      damaged((_, v) => v.setBigUint64(8, 1n << 40n, true)),
    ],
    ['a count of keys that does not fit a double', /is 18446744073709552000/, damaged((b) => b.fill(255, 16, 24))],
    ['an empty key', /a key is empty/, damaged((_, v) => v.setBigUint64(24, 0n, true))],
    ['a string longer than the file', /the file ends inside/, damaged((_, v) => v.setBigUint64(24, 1n << 50n, true))],
    ['an unknown value type', /unknown value type 77/, damaged((_, v) => v.setUint32(44, 77, true))],
    ['five dimensions', /has 5 dimensions/, damaged((_, v) => v.setUint32(TABLE + 9, 5, true))],
    ['a removed type', /removed type 31 \(Q4_0_4_4\)/, damaged((_, v) => v.setUint32(TABLE + 29, 31, true))],
    ['an unknown type', /unknown type 99/, damaged((_, v) => v.setUint32(TABLE + 29, 99, true))],
    [
      'a row that is no multiple of the block',
      /rows of 33 elements, expected a multiple of 32/,
      damaged((_, v) => v.setBigUint64(TABLE + 13, 33n, true)),
    ],
    [
      'dimensions whose product overflows',
      /too many elements/,
      damaged((_, v) => v.setBigUint64(TABLE + 21, 1n << 52n, true)),
    ],
    ['an offset that is not aligned', /no multiple of 32/, damaged((_, v) => v.setBigUint64(TABLE + 33, 8n, true))],
    ['an overlap', /overlaps tensor/, damaged((_, v) => v.setBigUint64(TABLE + 41 + 25, 0n, true))],
    ['a name twice', /tensor "a" occurs twice/, damaged((b) => b.set([0x61], TABLE + 41 + 8))],
    ['a tensor beyond the end', /ends at byte/, good().subarray(0, -32)],
    ['a truncated header', /the file ends inside|needs at least/, good().subarray(0, 60)],
  ]
  test.each(cases)('%s', async (_, message, bytes) => {
    const error = await open(bytes).then(
      () => undefined,
      (e: unknown) => e,
    )
    expect(error).toBeInstanceOf(FileError)
    expect((error as FileError).message).toMatch(message)
    expect((error as FileError).fields.file).toBe('x.gguf')
  })

  test('an array count larger than the file', async () => {
    const file = build(new Map<string, GgufValue>([['k', ggufStrings(['a'])]]), [])
    new DataView(file.buffer).setBigUint64(24 + 9 + 4 + 4, 1n << 33n, true)
    await expect(open(file)).rejects.toThrow(/claims 8589934592 elements of type string/)
  })
})

test('GgufKeys names the key and both types', () => {
  const keys = new GgufKeys(new Map([['a', ggufU32(1)]]), 'x.gguf')
  expect(keys.number('a')).toBe(1)
  expect(keys.string('b')).toBeUndefined()
  expect(() => keys.string('a')).toThrow('the key "a" is u32, expected a string')
  expect(() => keys.need('b', keys.number('b'))).toThrow('the key "b" is missing')
})
