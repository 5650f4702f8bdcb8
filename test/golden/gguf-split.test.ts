// Models in several files: the bytes that llama-gguf-split gives (`--split-max-size 1M` of llama-quantize's f16), and what is read again.
import { createHash } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { localFiles } from '../../src/checkpoint/node/files.ts'
import { outputStore } from '../../src/checkpoint/node/output.ts'
import { openCheckpoint } from '../../src/checkpoint/open.ts'
import type { Checkpoint } from '../../src/checkpoint/types.ts'
import { methodNamed } from '../../src/methods/index.ts'
import { modelSource } from '../../src/models/source.ts'
import { type QuantizeResult, quantizeModel } from '../../src/quantize/quantize.ts'
import { fixture } from '../support/fixtures.ts'

const SOURCE = fixture('gguf/models/a-f16.gguf')
const REFERENCE = {
  'x-00001-of-00003.gguf': 'b6cb9b287fc19d901f6ee3dbc96bc5c47356f3f008466863958a4062432370e1',
  'x-00002-of-00003.gguf': '907242f139768f66e692db5e70eb31089b97a246cbfc1091316d097fcfd7e811',
  'x-00003-of-00003.gguf': '31cc2c9f0935a982abfdd7bd4a2e88c8b6a32eb9fce04f1a8503b186ec65d6d5',
}

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fewbit-split-'))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

const open = async (path: string) => openCheckpoint(await localFiles(path))

/** Writes the model as `type` to `name` of the folder, in files of `maxShardBytes`. */
async function write(
  name: string,
  maxShardBytes: number,
  { from = SOURCE, force = false, single = true } = {},
): Promise<QuantizeResult> {
  const source = await modelSource(await open(from))
  try {
    const method = methodNamed('gguf')
    const store = await outputStore(join(folder, name), { force, single })
    return await quantizeModel(source, method, method.parseConfig(method.fromFlags({ type: 'f16' })), store, {
      maxShardBytes,
    })
  } finally {
    await source.checkpoint.close()
  }
}

async function bytesOfAll(checkpoint: Checkpoint): Promise<Record<string, string>> {
  const all: Record<string, string> = {}
  for (const tensor of checkpoint.tensors.values())
    all[tensor.name] = createHash('sha256')
      .update(await checkpoint.read(tensor))
      .digest('hex')
  await checkpoint.close()
  return all
}

test('the files of llama-gguf-split, byte for byte, and the first of them opens the model', async () => {
  const { out, sizeBytes } = await write('x.gguf', 1_000_000)
  expect(out).toBe(join(folder, 'x-00001-of-00003.gguf'))
  expect(await readdir(folder)).toEqual(Object.keys(REFERENCE))
  let total = 0
  for (const [name, sha256] of Object.entries(REFERENCE)) {
    const bytes = await readFile(join(folder, name))
    expect(createHash('sha256').update(bytes).digest('hex'), name).toBe(sha256)
    total += bytes.length
  }
  expect(sizeBytes).toBe(total)
  expect(await bytesOfAll(await open(out))).toEqual(await bytesOfAll(await open(SOURCE)))
})

test('a split model is split anew, or joined, without a trace of the old split', async () => {
  const { out } = await write('x.gguf', 1_000_000)
  expect((await write('whole.gguf', 10_000_000, { from: out })).out).toBe(join(folder, 'whole.gguf'))
  await write('y.gguf', 10_000_000)
  expect(await readFile(join(folder, 'whole.gguf'))).toEqual(await readFile(join(folder, 'y.gguf')))
  expect((await write('z.gguf', 600_000, { from: out })).out).toBe(join(folder, 'z-00001-of-00004.gguf'))
  expect(await bytesOfAll(await open(join(folder, 'z-00003-of-00004.gguf')))).toEqual(
    await bytesOfAll(await open(SOURCE)),
  )
})

test('a tensor above the limit has a file alone', async () => {
  const { out } = await write('x.gguf', 1)
  const count = Object.keys(await bytesOfAll(await open(SOURCE))).length
  expect(out).toBe(join(folder, `x-00001-of-${String(count).padStart(5, '0')}.gguf`))
  expect(await readdir(folder)).toHaveLength(count)
})

test('a folder holds the files as model-0000N-of-0000M.gguf, and opens', async () => {
  const { out } = await write('model', 1_000_000, { single: false })
  expect(out).toBe(join(folder, 'model'))
  expect(await readdir(out)).toEqual(Object.keys(REFERENCE).map((name) => name.replace('x-', 'model-')))
  expect(await bytesOfAll(await open(out))).toEqual(await bytesOfAll(await open(SOURCE)))
})

test('a file that is there is not replaced without force; with it all are', async () => {
  const path = join(folder, 'x-00002-of-00003.gguf')
  await writeFile(path, 'mine')
  await expect(write('x.gguf', 1_000_000)).rejects.toThrow(/x-00002-of-00003\.gguf": it exists already/)
  expect(await readdir(folder)).toEqual(['x-00002-of-00003.gguf'])
  await write('x.gguf', 1_000_000, { force: true })
  expect(await readdir(folder)).toEqual(Object.keys(REFERENCE))
  expect((await readFile(path)).length).toBe(920_256)
})
