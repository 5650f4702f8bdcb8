// llama-imatrix on the embedded model, float32, first four chunks of the evaluation text: the same file but for float32's noise in the sums
// (llama.cpp keeps keys and values as float16).
import { mkdir, mkdtemp, readFile, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { readCalibrationAt } from '../../src/api/calibration.ts'
import { makeImatrix } from '../../src/api/imatrix.ts'
import { openModel } from '../../src/api/open.ts'
import { openFile } from '../../src/checkpoint/node/files.ts'
import { outputStore } from '../../src/checkpoint/node/output.ts'
import type { ByteSource } from '../../src/checkpoint/types.ts'
import { readImatrix } from '../../src/methods/gguf/imatrix.ts'
import { memorySource } from '../support/memory-files.ts'
import { FIXTURES } from '../support/tensors.ts'

const ROOT = join(import.meta.dirname, '../..')
const REFERENCE = join(FIXTURES, 'gguf/imatrix/stories-7m-eval-4.gguf')
/** Key-values and the table of tensors. */
const HEADER_BYTES = 6912
const VALUE_TOLERANCE = 1e-3

const folder = await mkdtemp(join(tmpdir(), 'fewbit-imatrix-'))
afterAll(() => rm(folder, { recursive: true, force: true }))

const MODEL = join(ROOT, 'models/stories-7m')
const short = (name: string, text: string) => memorySource(name, new TextEncoder().encode(text))

async function collect(
  data: string | ByteSource,
  { model = MODEL, ...options }: { model?: string; samples: number; length?: number },
) {
  const source = await openModel(model)
  const path = join(folder, `${basename(model)}-${options.samples}.gguf`)
  try {
    const store = await outputStore(path, { force: false, single: true })
    const file = await readCalibrationAt(data)
    await makeImatrix(source, file, store, { device: 'cpu', threads: 2, dataset: 'eval.txt', ...options })
    return path
  } finally {
    await source.checkpoint.close()
  }
}

test('keys, names, order, counts and sums are those of llama-imatrix', async () => {
  const path = await collect(join(ROOT, 'models/data/eval.txt'), { samples: 4 })
  const [mine, expected] = await Promise.all([readFile(path), readFile(REFERENCE)])
  expect(mine.length).toBe(expected.length)
  expect(mine.subarray(0, HEADER_BYTES).equals(expected.subarray(0, HEADER_BYTES))).toBe(true)
  const [a, b] = [await readImatrix(await openFile(path)), await readImatrix(await openFile(REFERENCE))]
  expect([...a.entries.keys()]).toEqual([...b.entries.keys()])
  expect(a.chunks).toBe(4)
  for (const [name, values] of b.entries) {
    const own = a.entries.get(name)!
    const worst = values.reduce((most, v, i) => Math.max(most, Math.abs(own[i] / v - 1)), 0)
    expect(worst, name).toBeLessThan(VALUE_TOLERANCE)
  }
})

test('a text of less than two chunks is refused with its length', async () => {
  const text = short('short.txt', 'Once upon a time.')
  await expect(collect(text, { samples: 1 })).rejects.toThrow('chunks of 512 need at least 1024')
})

test('a model without a tokenizer is measured on ids, and asks for ids where it is given a text', async () => {
  const model = join(folder, 'no-tokenizer')
  await mkdir(model)
  for (const name of ['config.json', 'model.safetensors']) await symlink(join(MODEL, name), join(model, name))
  const ids = Array.from({ length: 3 }, (_, s) => Array.from({ length: 16 }, (_, i) => 5 + 16 * s + i))
  const path = await collect(short('ids.json', JSON.stringify(ids)), { model, samples: 3, length: 16 })
  expect((await readImatrix(await openFile(path))).chunks).toBe(3)
  const text = short('text.txt', 'Once upon a time.')
  await expect(collect(text, { model, samples: 1 })).rejects.toThrow('neither tokenizer.json nor tokenizer.model')
})
