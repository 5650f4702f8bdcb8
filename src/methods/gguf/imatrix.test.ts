import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { memorySource } from '../../../test/support/memory-files.ts'
import { FIXTURES } from '../../../test/support/tensors.ts'
import { ConfigError, FileError } from '../../core/errors.ts'
import { importanceOf, readImatrix } from './imatrix.ts'

async function bytesOf(name: string): Promise<Uint8Array> {
  return new Uint8Array(await readFile(join(FIXTURES, 'gguf/models', name)))
}

async function matrix(name: string) {
  return readImatrix(memorySource(name, await bytesOf(name)))
}

test('both formats of the reference collector hold the same entries', async () => {
  const gguf = await matrix('a-imatrix-real.gguf')
  const legacy = await matrix('a-imatrix-real.dat')
  expect([...legacy.entries.keys()].sort()).toEqual([...gguf.entries.keys()].sort())
  expect([gguf.chunks, legacy.chunks]).toEqual([3, 3])
  expect([gguf.dataset, legacy.dataset]).toEqual(['a-imatrix-text.txt', 'a-imatrix-text.txt'])
  for (const [name, values] of gguf.entries) {
    expect(values.length).toBe(256)
    // the older format stores a rounded product: equal to the last bit or two
    const other = legacy.entries.get(name)!
    for (const [i, v] of values.entries()) expect(Math.abs(other[i] - v)).toBeLessThanOrEqual(3e-7 * v)
  }
})

test('a weight is the sum divided by the count', async () => {
  const { entries } = await matrix('a-imatrix.gguf')
  const seen = entries.get('blk.0.attn_q.weight')!
  expect(seen[0] * 96).toBeGreaterThan(0.009) // sums are at least 0.01, counts 96
  expect(entries.get('blk.0.ffn_up.weight')!.length).toBe(256)
})

test('a file that is cut short is refused with the place', async () => {
  const bytes = await bytesOf('a-imatrix.dat')
  const cut = memorySource('a.dat', bytes.subarray(0, 700))
  await expect(readImatrix(cut)).rejects.toThrow(/"blk\.0\.attn_k\.weight" runs over the end of the file at byte \d+/)
  await expect(readImatrix(memorySource('a.dat', new Uint8Array(2)))).rejects.toThrow(FileError)
})

test('no damaged file is read as something else or hangs', async () => {
  const original = await bytesOf('a-imatrix.dat')
  for (let i = 0; i < 400; i++) {
    const bytes = original.slice(0, i % 2 ? original.length : (i * 37) % original.length)
    if (i % 2) bytes.set([0xff, 0xff, 0xff, 0x7f], (i * 31) % (original.length - 4))
    const read = await readImatrix(memorySource('a.dat', bytes)).catch((error) => error)
    if (read instanceof Error) expect(read).toBeInstanceOf(FileError)
    else for (const values of read.entries.values()) expect(values.every(Number.isFinite)).toBe(true)
  }
})

test('a model is no importance matrix', async () => {
  await expect(matrix('a-f16.gguf')).rejects.toThrow('it is a GGUF file of type "model"')
})

test('a value that is not finite is refused by tensor and index', async () => {
  const bytes = (await bytesOf('a-imatrix.dat')).slice()
  const name = 'blk.0.attn_k.weight'
  new DataView(bytes.buffer).setFloat32(8 + name.length + 8 + 4 * 5, Number.NaN, true)
  await expect(readImatrix(memorySource('a.dat', bytes))).rejects.toThrow(`value 5 of "${name}" is NaN`)
})

test('weights must fit the rows; only the token table may differ', () => {
  const entries = new Map([
    ['blk.0.attn_q.weight', new Float32Array(3)],
    ['token_embd.weight', new Float32Array(3)],
  ])
  const matrix = { entries, dataset: undefined, chunks: 0, digest: '' }
  const tensor = (name: string) => ({ name, shape: [8, 4], dtype: 'F16', role: 'linear' as const })
  const warnings: string[] = []
  expect(() => importanceOf(matrix, tensor('blk.0.attn_q.weight'), warnings)).toThrow(ConfigError)
  expect(importanceOf(matrix, tensor('token_embd.weight'), warnings)).toBeUndefined()
  expect(warnings).toEqual([
    'the importance matrix has 3 values for "token_embd.weight", its rows need 4: not used for this tensor',
  ])
})
