// Load -> save of a model that nobody changed gives the same bytes, for every checkpoint among the fixtures.
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { localFiles } from '../../src/checkpoint/node/files.ts'
import { outputStore } from '../../src/checkpoint/node/output.ts'
import { openCheckpoint } from '../../src/checkpoint/open.ts'
import { saveUnchanged } from '../../src/convert/save.ts'
import { fixture } from '../support/fixtures.ts'

let out: string
let count = 0
beforeAll(async () => {
  out = await mkdtemp(join(tmpdir(), 'fewbit-unchanged-'))
})
afterAll(() => rm(out, { recursive: true, force: true }))

const names = (await readdir(fixture('.'), { recursive: true })).sort()
const folders = [
  ...new Set(names.filter((n) => /model\.safetensors(\.index\.json)?$/.test(n)).map((n) => dirname(n))),
].filter((folder) => names.includes(join(folder, 'config.json')))
const files = names.filter((n) => n.endsWith('.gguf'))

test.each(folders)('%s', async (folder) => {
  const target = join(out, String(count++))
  const checkpoint = await openCheckpoint(await localFiles(fixture(folder)))
  await saveUnchanged(checkpoint, await outputStore(target, { force: false }))
  await checkpoint.close()
  const saved = (await readdir(target)).sort()
  const weights = /\.safetensors$/
  const own = (await readdir(fixture(folder))).filter(
    (n) => !weights.test(n) || n.startsWith('model') || saved.includes(n),
  )
  expect(saved).toEqual(own.sort())
  for (const name of saved)
    expect((await readFile(join(target, name))).equals(await readFile(join(fixture(folder), name)))).toBe(true)
})

test.each(files)('%s, to a path and to a folder', async (file) => {
  const checkpoint = await openCheckpoint(await localFiles(fixture(file)))
  const source = await readFile(fixture(file))
  const path = join(out, `${count++}.gguf`)
  await saveUnchanged(checkpoint, await outputStore(path, { force: false, single: true }))
  expect((await readFile(path)).equals(source)).toBe(true)
  const folder = join(out, String(count++))
  await saveUnchanged(checkpoint, await outputStore(folder, { force: false }))
  expect(await readdir(folder)).toEqual(['model.gguf'])
  expect((await readFile(join(folder, 'model.gguf'))).equals(source)).toBe(true)
  await checkpoint.close()
})
