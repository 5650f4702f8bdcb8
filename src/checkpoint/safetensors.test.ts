import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { memoryFiles, memorySource } from '../../test/support/memory-files.ts'
import { FileError } from '../core/errors.ts'
import { blobFiles } from './blob.ts'
import { localFiles } from './node/files.ts'
import { openCheckpoint } from './open.ts'
import { readSafetensorsHeader, safetensorsHeader, safetensorsOrder } from './safetensors.ts'
import { indexText, planShards } from './shards.ts'

const FIXTURES = resolve(import.meta.dirname, '../../test/fixtures')
const SHARDED = join(FIXTURES, 'transformers/sharded')
const bytesOf = (path: string) => new Uint8Array(readFileSync(path))
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

/** A file with any JSON header and `data` bytes of data. */
function withHeader(header: unknown, data = 0): Uint8Array {
  const json = new TextEncoder().encode(typeof header === 'string' ? header : JSON.stringify(header))
  const bytes = new Uint8Array(8 + json.length + data)
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true)
  bytes.set(json, 8)
  return bytes
}

const names = readdirSync(FIXTURES, { recursive: true }) as string[]
const models = names.filter((n) => n.endsWith('model.safetensors')).sort()

test.each(models)('%s: the header written again is the same', async (name) => {
  const bytes = bytesOf(join(FIXTURES, name))
  const { tensors, metadata } = await readSafetensorsHeader(memorySource(name, bytes))
  const { header, total } = safetensorsHeader([...tensors].sort(safetensorsOrder), metadata)
  expect(sha256(header)).toBe(sha256(bytes.subarray(0, header.length)))
  expect(total).toBe(bytes.length)
})

test('strings are escaped and scalars written as the reference does', () => {
  const entries = [
    { name: '', dtype: 'F32', shape: [0] },
    { name: 'a"\n\u0001\u007f\u2028é😀\b\f/', dtype: 'F32', shape: [1] },
    { name: 's', dtype: 'F32', shape: [] },
  ]
  const { header } = safetensorsHeader(entries, new Map())
  // safetensors 0.8.0, save({...})
  const expected =
    '{"":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a\\"\\n\\u0001\x7f\u2028é😀\\b\\f/":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"s":{"dtype":"F32","shape":[],"data_offsets":[4,8]}} '
  expect(new TextDecoder().decode(header.subarray(8))).toBe(expected)
})

describe('shards', () => {
  test('the reference folder is planned the same, file by file', async () => {
    const checkpoint = await openCheckpoint(await localFiles(SHARDED))
    const shards = planShards([...checkpoint.tensors.values()], 60_000)
    expect(shards.map((s) => s.file)).toEqual(
      readdirSync(SHARDED)
        .filter((n) => n.endsWith('.safetensors'))
        .sort(),
    )
    for (const { file, entries } of shards) {
      const { header } = safetensorsHeader([...entries].sort(safetensorsOrder), new Map([['format', 'pt']]))
      expect(sha256(header)).toBe(sha256(bytesOf(join(SHARDED, file)).subarray(0, header.length)))
    }
    const index = readFileSync(join(SHARDED, 'model.safetensors.index.json'), 'utf8')
    expect(indexText(shards, 88384)).toBe(index)
    await checkpoint.close()
  })

  test('a tensor above the limit comes before the shard being filled', () => {
    const entry = (name: string, n: number) => ({ name, dtype: 'U8', shape: [n] })
    const shards = planShards([entry('a', 3), entry('b', 20), entry('c', 4), entry('d', 5)], 10)
    expect(shards.map((s) => s.entries.map((e) => e.name).join(''))).toEqual(['b', 'ac', 'd'])
    expect(planShards([entry('a', 3)]).map((s) => s.file)).toEqual(['model.safetensors'])
  })
})

test('blobs read as files do', async () => {
  const blobs = new Map(readdirSync(SHARDED).map((name) => [name, new Blob([bytesOf(join(SHARDED, name))])]))
  const [a, b] = [await openCheckpoint(blobFiles('dropped', blobs)), await openCheckpoint(await localFiles(SHARDED))]
  expect(a.tensors).toEqual(b.tensors)
  const tensor = a.tensors.get('model.norm.weight')!
  expect(await a.read(tensor)).toEqual(await b.read(tensor))
  expect(await a.read(tensor, 2, 6)).toEqual((await b.read(tensor)).slice(2, 6))
  await b.close()
})

test('one shard can be opened alone', async () => {
  const checkpoint = await openCheckpoint(await localFiles(join(SHARDED, 'model-00001-of-00004.safetensors')))
  expect([...checkpoint.tensors.keys()]).toEqual(['lm_head.weight'])
  await checkpoint.close()
})

async function refusal(files: Record<string, Uint8Array | string>, single?: string): Promise<FileError> {
  const error = await openCheckpoint(memoryFiles(files, single)).then(
    () => undefined,
    (e: unknown) => e,
  )
  expect(error).toBeInstanceOf(FileError)
  return error as FileError
}

describe('damage is refused with the rule that it breaks', () => {
  const ok = { dtype: 'U8', shape: [2], data_offsets: [0, 2] }
  const cases: [string, RegExp, Uint8Array][] = [
    ['too short for a header', /needs at least 8/, new Uint8Array(4)],
    ['a header longer than the file', /the file has/, withHeader({ a: ok }).subarray(0, 20)],
    ['a header beyond the limit', /the limit is/, new Uint8Array(16).fill(255)],
    ['no UTF-8', /is not UTF-8/, withHeader('{"\u0000').fill(0xff, 8)],
    ['no object', /not an object/, withHeader('[]')],
    ['a name twice', /occurs twice/, withHeader(`{"a":${JSON.stringify(ok)},"a":${JSON.stringify(ok)}}`, 2)],
    ['metadata that is no string', /is not a string/, withHeader({ __metadata__: { a: 1 } })],
    ['an unknown dtype', /unknown dtype "F7"/, withHeader({ a: { ...ok, dtype: 'F7' } }, 2)],
    ["a dtype that is an object's property", /unknown dtype/, withHeader({ a: { ...ok, dtype: 'constructor' } }, 2)],
    ['a negative dimension', /no shape/, withHeader({ a: { ...ok, shape: [-2] } }, 2)],
    ['too many dimensions', /no shape/, withHeader({ a: { ...ok, shape: Array(99).fill(1) } }, 2)],
    ['a shape that overflows', /its data_offsets span/, withHeader({ a: { ...ok, shape: [2 ** 40, 2 ** 40] } }, 2)],
    ['offsets that disagree with the shape', /span 1/, withHeader({ a: { ...ok, data_offsets: [0, 1] } }, 2)],
    ['offsets turned round', /no legal data_offsets/, withHeader({ a: { ...ok, data_offsets: [2, 0] } }, 2)],
    ['an overlap', /overlaps/, withHeader({ a: ok, b: { ...ok, data_offsets: [1, 3] } }, 3)],
    ['a gap', /a gap of 1 bytes/, withHeader({ a: ok, b: { ...ok, data_offsets: [3, 5] } }, 5)],
    ['bytes after the last tensor', /the tensors end at/, withHeader({ a: ok }, 3)],
    ['a truncated tensor', /ends at byte/, withHeader({ a: ok }, 1)],
  ]
  test.each(cases)('%s', async (_, message, bytes) => {
    const error = await refusal({ 'model.safetensors': bytes })
    expect(error.message).toMatch(message)
    expect(error.fields.file).toBe('model.safetensors')
  })
})

describe('an index that lies is refused', () => {
  const shard = (name: string) => withHeader({ [name]: { dtype: 'U8', shape: [1], data_offsets: [0, 1] } }, 1)
  const index = (map: unknown) => JSON.stringify({ weight_map: map })
  const INDEX = 'model.safetensors.index.json'

  test.each([
    ['../x.safetensors'],
    ['/etc/x.safetensors'],
    ['a\\x.safetensors'],
    ['C:x.safetensors'],
    ['.safetensors'],
    ['config.json'],
    ['pytorch_model.bin'],
    ['x\u0000.safetensors'],
    [''],
  ])('shard %j', async (name) => {
    const error = await refusal({ [INDEX]: index({ a: name }) })
    expect(error.message).toContain('expected a .safetensors file in the same folder')
    expect(error.fields).toMatchObject({ file: INDEX, tensor: 'a', actual: name })
  })

  test('a missing shard is named', async () => {
    const error = await refusal({
      [INDEX]: index({ a: '1.safetensors', b: '2.safetensors' }),
      '1.safetensors': shard('a'),
    })
    expect(error.message).toContain('shard "2.safetensors" is missing')
    expect(error.hint).toContain('names 2 shards')
  })

  test('a tensor that is elsewhere or nowhere is named', async () => {
    const files = { '1.safetensors': shard('a'), '2.safetensors': shard('b') }
    const moved = await refusal({
      ...files,
      [INDEX]: index({ a: '1.safetensors', b: '1.safetensors', c: '2.safetensors' }),
    })
    expect(moved.message).toContain('puts tensor "b" into "1.safetensors", it is in "2.safetensors"')
    const absent = await refusal({
      ...files,
      [INDEX]: index({ a: '1.safetensors', b: '2.safetensors', c: '2.safetensors' }),
    })
    expect(absent.message).toContain('tensor "c" into "2.safetensors", it is in none of the shards')
  })

  test('a tensor in two shards is refused; one that the index forgot is a warning', async () => {
    const map = index({ a: '1.safetensors', b: '2.safetensors' })
    const two = withHeader(
      { a: { dtype: 'U8', shape: [1], data_offsets: [0, 1] }, b: { dtype: 'U8', shape: [1], data_offsets: [1, 2] } },
      2,
    )
    const error = await refusal({ [INDEX]: map, '1.safetensors': shard('a'), '2.safetensors': two })
    expect(error.message).toContain('tensor "a" is in two shards')
    const forgotten = await openCheckpoint(
      memoryFiles({ [INDEX]: index({ a: '2.safetensors' }), '2.safetensors': two }),
    )
    expect(forgotten.warnings).toEqual([`tensor "b" of "2.safetensors" is not in ${INDEX}`])
  })

  test.each([
    ['no weight_map', '{}', /no object "weight_map"/],
    ['a number as a shard', index({ a: 5 }), /is 5, expected a file name/],
    ['no shards', index({}), /names 0 shards/],
  ])('%s', async (_, text, message) => {
    expect((await refusal({ [INDEX]: text })).message).toMatch(message)
  })
})

describe('what fewbit does not read is named, with the way out', () => {
  test.each([
    [
      'no pickle',
      { 'config.json': '{}', 'pytorch_model.bin': 'PK' },
      undefined,
      /no file of torch.save/,
      /download it/,
    ],
    ['a cut pickle', { weights: 'PK\u0003\u0004....' }, 'weights', /zip archive without an end/, /download it/],
    ['an adapter', { 'adapter_config.json': '{}', 'adapter_model.safetensors': '' }, undefined, /holds no/, /adapter/],
    ['another name', { 'foo.safetensors': '' }, undefined, /holds no/, /rename it/],
    ['an empty folder', {}, undefined, /holds no/, /a model folder holds/],
    ['something else', { x: 'hello world' }, 'x', /neither safetensors nor GGUF/, /name a model folder/],
  ] as [string, Record<string, string>, string | undefined, RegExp, RegExp][])(
    '%s',
    async (_, files, single, message, hint) => {
      const error = await refusal(files, single)
      expect(error.message).toMatch(message)
      expect(error.hint).toMatch(hint)
    },
  )
})
