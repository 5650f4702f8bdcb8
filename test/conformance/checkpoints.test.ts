// Every checkpoint among the fixtures and the embedded model: load and save gives the same bytes, reading and writing its weights gives the
// same tensors, and every device gives the logits of the reference.
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join, resolve } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { openModel } from '../../src/api/open.ts'
import { positionLimit } from '../../src/backends/batch.ts'
import { localFiles } from '../../src/checkpoint/node/files.ts'
import { outputStore } from '../../src/checkpoint/node/output.ts'
import { openCheckpoint } from '../../src/checkpoint/open.ts'
import { saveUnchanged } from '../../src/convert/save.ts'
import { UnsupportedError } from '../../src/core/errors.ts'
import { readTensor } from '../../src/models/source.ts'
import type { QuantizedWeight } from '../../src/weights/weight.ts'
import { COMPILED } from '../support/devices.ts'
import { exactnessOf, observeOn, observeReference } from '../support/observe.ts'
import { FIXTURES } from '../support/tensors.ts'
import { expectClose, expectSameBits } from '../support/tolerances.ts'
import { readerOf } from '../support/walk.ts'
import { Skips } from '../support/walk-record.ts'

const out = await mkdtemp(join(tmpdir(), 'fewbit-checkpoints-'))
let count = 0
const skips = new Skips()
afterAll(async () => {
  skips.print()
  await rm(out, { recursive: true, force: true })
})

const names = (await readdir(FIXTURES, { recursive: true })).sort()
const inFixtures = (name: string) => [name, join(FIXTURES, name)] as const
const folders = [
  ['models/stories-7m', resolve(FIXTURES, '../../models/stories-7m')] as const,
  ...[...new Set(names.filter((n) => /model.*\.safetensors$/.test(n)).map((n) => dirname(n)))]
    .filter((folder) => names.includes(join(folder, 'config.json')))
    .map(inFixtures),
]
const files = names.filter((n) => n.endsWith('.gguf')).map(inFixtures)

describe('load and save', () => {
  test.each(folders)('%s', async (_name, folder) => {
    const target = join(out, String(count++))
    const checkpoint = await openCheckpoint(await localFiles(folder))
    await saveUnchanged(checkpoint, await outputStore(target, { force: false }))
    await checkpoint.close()
    const saved = (await readdir(target)).sort()
    // Golden data that lies beside a model is no part of it.
    const isOwn = (n: string) => !n.endsWith('.safetensors') || n.startsWith('model') || saved.includes(n)
    expect(saved).toEqual((await readdir(folder)).filter(isOwn).sort())
    for (const name of saved)
      expectSameBits(await readFile(join(target, name)), await readFile(join(folder, name)), name)
  })

  test.each(files)('%s, to a path and to a folder', async (_name, file) => {
    const checkpoint = await openCheckpoint(await localFiles(file))
    const source = await readFile(file)
    const path = join(out, `${count++}.gguf`)
    await saveUnchanged(checkpoint, await outputStore(path, { force: false, single: true }))
    expectSameBits(await readFile(path), source, basename(path))
    const folder = join(out, String(count++))
    await saveUnchanged(checkpoint, await outputStore(folder, { force: false }))
    expect(await readdir(folder)).toEqual(['model.gguf'])
    expectSameBits(await readFile(join(folder, 'model.gguf')), source, 'model.gguf')
    await checkpoint.close()
  })
})

/** Crosses a page of the cache (64 positions). */
const PROMPT = 70

describe.each([...folders, ...files])('%s', async (name, path) => {
  const source = await openOrSkip(name, path)
  if (!source) return test.skip('cannot be opened yet', () => {})
  afterAll(() => source.checkpoint.close())
  const weights: QuantizedWeight[] = []
  for (let i = 0; i < source.parameters.length; i++) weights.push(await source.load(i))
  const { method } = source

  if (method?.stored.readSettings)
    test('every weight, read and written again, is the same tensors', async () => {
      const warnings: string[] = []
      const reader = readerOf(source, undefined, warnings)
      for (const [i, { name: weight, quantized }] of source.parameters.entries()) {
        if (!quantized) continue
        const settings = await method.stored.readSettings!(weight, reader)
        const stored = await method.stored.read(weight, weights[i].shape, reader)
        for (const { name: part, tensor } of await method.stored.write(weight, stored, settings))
          expectSameBits(tensor.data, (await readTensor(source.checkpoint, part)).data, part)
      }
      expect(warnings).toEqual([])
    })

  test('logits on every device, with one thread and two, alone and together', async () => {
    const prompt = Math.min(PROMPT, positionLimit(source.graph) - 1)
    const exactness = exactnessOf(weights)
    const reference = await observeReference(source, prompt)
    for (const device of COMPILED) {
      const { seen } = await observeOn(device, source, { precision: 'exact', threads: 1, prompt })
      expectClose(seen, reference, exactness.kernel)
      if (exactness.isRowwise) expectSameBits(seen.together, seen.alone, `${device.name}: together`)
      const two = await observeOn(device, source, { precision: 'exact', threads: 2, prompt })
      for (const key of Object.keys(seen) as (keyof typeof seen)[])
        expectSameBits(two.seen[key], seen[key], `${device.name}, 2 threads: ${key}`)
    }
  })
})

/** GGUF also holds importance matrices. */
async function isModel(path: string): Promise<boolean> {
  const checkpoint = await openCheckpoint(await localFiles(path))
  await checkpoint.close()
  return checkpoint.format !== 'gguf' || checkpoint.metadata.has('general.architecture')
}

/** Undefined where no registered family or method opens it; the reason is printed. */
async function openOrSkip(name: string, path: string) {
  if (!(await isModel(path))) {
    skips.add('it is no model', name)
    return undefined
  }
  try {
    return await openModel(path)
  } catch (error) {
    if (!(error instanceof UnsupportedError)) throw error
    skips.add(error.message.split(': ')[0].replace(/"[^"]*\//, '"'), name)
    return undefined
  }
}
