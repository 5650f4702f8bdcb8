// llama-imatrix on the embedded model, float32, first four chunks of the evaluation text: the same file but for float32's noise in the sums
// (llama.cpp keeps keys and values as float16).
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { readCalibrationAt } from '../../src/api/calibration.ts'
import { makeImatrix } from '../../src/api/imatrix.ts'
import { openModel } from '../../src/api/open.ts'
import { tokenizerOf } from '../../src/api/tokenizer.ts'
import { openFile } from '../../src/checkpoint/node/files.ts'
import { outputStore } from '../../src/checkpoint/node/output.ts'
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

async function collect(text: string | undefined, samples: number) {
  const source = await openModel(join(ROOT, 'models/stories-7m'))
  const path = join(folder, `${samples}.gguf`)
  const file =
    text === undefined
      ? await readCalibrationAt(join(ROOT, 'models/data/eval.txt'))
      : await readCalibrationAt(memorySource('short.txt', new TextEncoder().encode(text)))
  try {
    const store = await outputStore(path, { force: false, single: true })
    const options = { device: 'cpu', threads: 2, dataset: 'eval.txt', samples }
    await makeImatrix(source, file, await tokenizerOf(source.checkpoint.files), store, options)
    return path
  } finally {
    await source.checkpoint.close()
  }
}

test('keys, names, order, counts and sums are those of llama-imatrix', async () => {
  const path = await collect(undefined, 4)
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
  await expect(collect('Once upon a time.', 1)).rejects.toThrow('chunks of 512 need at least 1024')
})
