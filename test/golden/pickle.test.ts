// Files of torch.save: the tensors are those that safetensors holds of the same state dictionary, and nothing in a pickle is ever run.
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { beforeEach, describe, expect, test } from 'vitest'
import { openCheckpoint } from '../../src/checkpoint/open.ts'
import { FileError } from '../../src/core/errors.ts'
import { fixture } from '../support/fixtures.ts'
import { memoryFiles } from '../support/memory-files.ts'
import { fixtureTensors } from '../support/tensors.ts'

const bytesOf = (name: string) => new Uint8Array(readFileSync(fixture(`pickle/${name}`)))
const expected = await fixtureTensors('pickle/expected.safetensors')

describe.each(['zip.bin', 'wrapped.bin', 'legacy.bin'])('%s', async (name) => {
  const checkpoint = await openCheckpoint(memoryFiles({ 'pytorch_model.bin': bytesOf(name) }))

  test('names every tensor', () => {
    expect([...checkpoint.tensors.keys()].sort()).toEqual([...expected.keys()].sort())
  })

  test.each([...expected.keys()])('%s', async (tensor) => {
    const stored = checkpoint.tensors.get(tensor)!
    const { dtype, shape, data } = expected.get(tensor)!
    expect([stored.dtype, stored.shape]).toEqual([dtype, shape])
    expect(Buffer.from(await checkpoint.read(stored)).equals(data)).toBe(true)
    const middle = Math.floor(data.length / 2)
    expect(Buffer.from(await checkpoint.read(stored, middle)).equals(data.subarray(middle))).toBe(true)
  })
})

/** Where the hostile fixtures would leave a trace. */
const MARKER = '/tmp/fewbit-pickle-marker'
beforeEach(() => rmSync(MARKER, { force: true }))

test.each([
  ['exec.bin', 'posix.system'],
  ['eval.bin', 'builtins.eval'],
  ['bare.bin', 'posix.system'],
])('%s is refused by the name of what it wants to run, and runs nothing', async (name, wanted) => {
  const opened = openCheckpoint(memoryFiles({ 'pytorch_model.bin': bytesOf(name) }))
  await expect(opened).rejects.toThrow(FileError)
  await expect(opened).rejects.toMatchObject({ message: expect.stringContaining(wanted), fields: { name: wanted } })
  expect(existsSync(MARKER)).toBe(false)
})

test('an index of shards is followed', async () => {
  const index = JSON.stringify({ weight_map: { f32: 'pytorch_model-00001-of-00001.bin' } })
  const files = { 'pytorch_model.bin.index.json': index, 'pytorch_model-00001-of-00001.bin': bytesOf('zip.bin') }
  expect((await openCheckpoint(memoryFiles(files))).tensors.size).toBe(expected.size)
})

describe('a damaged file is a FileError in bounded time', () => {
  const whole = bytesOf('zip.bin')
  const legacy = bytesOf('legacy.bin')
  const cut = (bytes: Uint8Array, keep: number) => bytes.slice(0, keep)
  const flipped = (bytes: Uint8Array, at: number) => bytes.slice().fill(bytes[at] ^ 0xff, at, at + 1)
  const cases: [string, Uint8Array][] = []
  for (let i = 1; i < 40; i++) {
    cases.push([`zip cut at ${i}/40`, cut(whole, Math.floor((whole.length * i) / 40))])
    cases.push([`legacy cut at ${i}/40`, cut(legacy, Math.floor((legacy.length * i) / 40))])
  }
  test.each(cases)('%s', async (_name, bytes) => {
    await expect(openCheckpoint(memoryFiles({ 'pytorch_model.bin': bytes }))).rejects.toThrow(FileError)
  })

  test('every byte of the pickle changed: tensors or a FileError, never anything else', async () => {
    for (const bytes of [whole, legacy])
      for (let at = 0; at < bytes.length; at++) {
        const opened = await openCheckpoint(memoryFiles({ 'pytorch_model.bin': flipped(bytes, at) })).catch((e) => e)
        if (opened instanceof Error) expect(opened, `byte ${at}`).toBeInstanceOf(FileError)
      }
  })
})
