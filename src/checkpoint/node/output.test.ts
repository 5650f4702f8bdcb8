import { spawnSync } from 'node:child_process'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { FileError } from '../../core/errors.ts'
import type { OutputStore } from '../types.ts'
import { outputStore } from './output.ts'

let folder: string
let out: string
let count = 0
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fewbit-output-'))
})
beforeEach(() => {
  out = join(folder, `out-${count++}`)
})
afterAll(() => rm(folder, { recursive: true, force: true }))

async function put(store: OutputStore, name: string, text: string): Promise<void> {
  const sink = await store.create(name)
  await sink.write(new TextEncoder().encode(text))
  await sink.close()
}
const left = async () => (await readdir(folder)).filter((n) => n.startsWith(out.slice(folder.length + 1)))

test('a folder appears whole on commit, and nothing else is left', async () => {
  const store = await outputStore(out, { force: false })
  expect(await left()).toEqual([])
  await put(store, 'a', 'one')
  await put(store, 'sub/b', 'two')
  expect(await left()).toEqual([`out-${count - 1}.fewbit-partial`])
  await store.commit()
  expect(await readFile(join(out, 'sub/b'), 'utf8')).toBe('two')
  expect(await left()).toEqual([`out-${count - 1}`])
})

test('an existing output is refused before any work, and replaced whole with force', async () => {
  await mkdir(out)
  await writeFile(join(out, 'old'), 'old')
  await expect(outputStore(out, { force: false })).rejects.toMatchObject({ hint: expect.stringContaining('--force') })
  const store = await outputStore(out, { force: true })
  await put(store, 'new', 'new')
  expect(await readdir(out)).toEqual(['old'])
  await store.commit()
  expect(await readdir(out)).toEqual(['new'])
})

test('a single file replaces a single file', async () => {
  await writeFile(out, 'old')
  const store = await outputStore(out, { force: true, single: true })
  await put(store, store.single!, 'new')
  await store.commit()
  expect(await readFile(out, 'utf8')).toBe('new')
  expect(await left()).toHaveLength(1)
})

test('the model that is being read is never replaced', async () => {
  await mkdir(out)
  await writeFile(join(out, 'm.gguf'), '')
  await expect(outputStore(out, { force: true, source: out })).rejects.toThrow(/is the model that is being read/)
  await expect(outputStore(out, { force: true, source: join(out, 'm.gguf') })).rejects.toThrow(/being read/)
})

test('abort leaves the old output and no partial data', async () => {
  await writeFile(out, 'old')
  const store = await outputStore(out, { force: true, single: true })
  await put(store, store.single!, 'new')
  await store.abort()
  expect(await readFile(out, 'utf8')).toBe('old')
  expect(await left()).toHaveLength(1)
})

const FOLDER_MOVE = () => JSON.stringify([{ from: 'files', to: basename(out) }])

test('a commit that died between its renames is put back, and what was written stays', async () => {
  await mkdir(`${out}.fewbit-old`)
  await mkdir(`${out}.fewbit-partial/files`, { recursive: true })
  await writeFile(`${out}.fewbit-partial/commit.json`, FOLDER_MOVE())
  await expect(outputStore(out, { force: false })).rejects.toThrow(/exists already/)
  expect(await left()).toEqual([basename(out), `${basename(out)}.fewbit-partial`])
  expect(await readdir(`${out}.fewbit-partial`)).toEqual(['files'])
})

test('a commit that died after its last rename is ended: nothing of it is left', async () => {
  await mkdir(out)
  await mkdir(`${out}.fewbit-old`)
  await mkdir(`${out}.fewbit-partial/scratch`, { recursive: true })
  await writeFile(`${out}.fewbit-partial/committed.json`, FOLDER_MOVE())
  await expect(outputStore(out, { force: false })).rejects.toThrow(/exists already/)
  expect(await left()).toEqual([basename(out)])
})

test('a commit that another process is in the middle of is left to it', async () => {
  const store = await outputStore(out, { force: false })
  await put(store, 'a', 'one')
  await writeFile(`${out}.fewbit-partial/commit.json`, FOLDER_MOVE())
  await expect(outputStore(out, { force: true })).rejects.toThrow(/is writing it now/)
  await store.abort()
})

test('a record that leads elsewhere moves nothing', async () => {
  await mkdir(`${out}.fewbit-partial`)
  await writeFile(`${out}-other`, 'mine')
  const moves = [
    { from: 'files/x', to: `../${basename(folder)}/${basename(out)}-other` },
    { from: '../x', to: `${basename(out)}-other` },
  ]
  await writeFile(`${out}.fewbit-partial/commit.json`, JSON.stringify(moves))
  await outputStore(out, { force: false })
  expect(await readFile(`${out}-other`, 'utf8')).toBe('mine')
  expect(await left()).toEqual([`${basename(out)}-other`])
})

test.each(['', '{"from"', '{}', '[null]', '[{"from": 1, "to": "x"}]'])(
  'a damaged record is said, not followed: %s',
  async (text) => {
    await mkdir(`${out}.fewbit-partial`)
    await writeFile(`${out}.fewbit-partial/commit.json`, text)
    await expect(outputStore(out, { force: true })).rejects.toThrow(/commit.json": it is no list of renames/)
    expect(await readdir(`${out}.fewbit-partial`)).toEqual(['commit.json'])
  },
)

test('a slash at the end is no other place', async () => {
  const store = await outputStore(`${out}/`, { force: false })
  await put(store, 'a', 'one')
  expect(await left()).toEqual([`${basename(out)}.fewbit-partial`])
  await store.commit()
  expect(await readFile(join(out, 'a'), 'utf8')).toBe('one')
})

test('a journal of the same work comes back, without its torn last line; other work starts anew', async () => {
  const first = await outputStore(out, { force: false })
  const journal = await first.journal('key')
  expect(journal).toMatchObject({ entries: [], discarded: false })
  await journal.append({ job: 'a' })
  await put(first, 'data', 'kept')
  await first.release()
  const path = join(`${out}.fewbit-partial`, 'journal.jsonl')
  await writeFile(path, `${await readFile(path, 'utf8')}{"job":"b`)

  const again = await outputStore(out, { force: false })
  expect((await again.journal('key')).entries).toEqual([{ job: 'a' }])
  const kept = await again.reopen('data')
  expect(kept.size).toBe(4)
  await kept.close()
  await again.release()

  const other = await outputStore(out, { force: false })
  expect(await other.journal('other')).toMatchObject({ entries: [], discarded: true })
  await expect(other.reopen('data')).rejects.toBeInstanceOf(FileError)
  await other.abort()
})

test('a live process blocks, a dead one does not', async () => {
  const store = await outputStore(out, { force: false })
  await store.journal('key')
  const second = await outputStore(out, { force: false })
  await expect(second.journal('key')).rejects.toThrow(new RegExp(`process ${process.pid} is writing it now`))
  await store.release()
  const { pid } = spawnSync(process.execPath, ['-e', ''])
  const lock = join(`${out}.fewbit-partial`, 'lock')
  await writeFile(lock, JSON.stringify({ pid }))
  await second.journal('key')
  await second.release()
  await writeFile(lock, '{"pi')
  await second.journal('key')
  await second.release()
  // A number that another process has got since: the start time differs.
  await writeFile(lock, JSON.stringify({ pid: process.ppid, started: 'never' }))
  await second.journal('key')
  await second.abort()
})

test('a write that fails says what is wrong', async () => {
  await writeFile(join(folder, 'file'), '')
  const store = await outputStore(join(folder, 'file', 'out'), { force: false })
  await expect(store.create('a')).rejects.toThrow(/Cannot write ".*out.fewbit-partial": ENOTDIR/)
})
