// Models of the hub, against a server on loopback that speaks its API: what is fetched, the cache that other programs share, broken and
// lying answers, and uploads.
import { createHash } from 'node:crypto'
import { mkdtemp, readdir, readFile, readlink, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { openModel } from '../../src/api/open.ts'
import { FileError } from '../../src/core/errors.ts'
import { AutoModelForCausalLM, AutoTokenizer } from '../../src/index.ts'
import { COMMIT, type FakeHub, fakeHub, TOKEN } from '../support/hub-server.ts'
import { FIXTURES } from '../support/tensors.ts'

const ID = 'someone/tiny-model'
const MODEL = join(FIXTURES, 'transformers/models/llama')
let home: string

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'fewbit-hub-'))
  for (const name of ['HF_TOKEN', 'HF_HUB_CACHE', 'HF_HUB_OFFLINE', 'HF_TOKEN_PATH']) vi.stubEnv(name, undefined)
  vi.stubEnv('HF_HOME', home)
})
afterEach(async () => {
  vi.unstubAllEnvs()
  await rm(home, { recursive: true, force: true })
})

async function start(files?: Record<string, Buffer>, needsToken = false): Promise<FakeHub> {
  const held = files ?? {
    'config.json': await readFile(join(MODEL, 'config.json')),
    'model.safetensors': await readFile(join(MODEL, 'model.safetensors')),
    'README.md': Buffer.from('# nothing'),
    'pytorch_model.bin': Buffer.from('not wanted'),
    'onnx/model.onnx': Buffer.from('not wanted'),
  }
  const hub = await fakeHub(ID, held, needsToken)
  vi.stubEnv('HF_ENDPOINT', hub.url)
  onTestFinished(() => hub.close())
  return hub
}

async function open(location = ID): Promise<string[]> {
  const { checkpoint } = await openModel(location)
  const names = [...checkpoint.tensors.keys()]
  await checkpoint.close()
  return names
}

const failure = (location = ID) =>
  open(location).then(
    () => expect.unreachable(),
    (e: unknown) => e as FileError,
  )

describe('fetching', () => {
  test('takes the weights of one kind and lays them out as every Hugging Face program does', async () => {
    const hub = await start()
    expect(await open()).toContain('model.norm.weight')
    const repo = join(home, 'hub/models--someone--tiny-model')
    expect(await readFile(join(repo, 'refs/main'), 'utf8')).toBe(COMMIT)
    const snapshot = join(repo, 'snapshots', COMMIT)
    expect((await readdir(snapshot)).sort()).toEqual(['config.json', 'model.safetensors'])
    const hash = createHash('sha256').update(hub.files.get('model.safetensors')!).digest('hex')
    expect(await readlink(join(snapshot, 'model.safetensors'))).toBe(`../../blobs/${hash}`)
  })

  test('fetches nothing twice', async () => {
    const hub = await start()
    await open()
    hub.requests.length = 0
    await open()
    expect(hub.requests).toEqual([`GET /api/models/${ID}/revision/main`])
  })

  test('goes on where a download broke off', async () => {
    const hub = await start()
    hub.faults.breakAfter = 40_000
    await open()
    const ranges = hub.requests.filter((line) => line.startsWith('GET /cdn/')).map((line) => line.split(' ')[2])
    expect(ranges[0]).toBeUndefined()
    expect(ranges.slice(1).length).toBeGreaterThan(0)
    for (const range of ranges.slice(1)) expect(range).toMatch(/^bytes=[1-9]/)
  })

  test('keeps what came when it gives up, for the next time', async () => {
    const hub = await start()
    hub.faults.totalBytes = 2000
    const error = await failure()
    expect(error.message).toMatch(/broke off at byte \d+ of/)
    expect(error.hint).toContain('same command')
    const blobs = await readdir(join(home, 'hub/models--someone--tiny-model/blobs'))
    expect(blobs.filter((name) => name.endsWith('.incomplete'))).toHaveLength(1)
    hub.faults.totalBytes = undefined
    hub.requests.length = 0
    await open()
    expect(hub.requests.filter((line) => line.startsWith('GET /cdn/'))[0]).toMatch(/bytes=[1-9]/)
  })

  test('one of several GGUF files is named by a part of its name', async () => {
    const gguf = await readFile(join(FIXTURES, 'gguf/models/b-q4_k_m.gguf'))
    const hub = await start({ 'tiny-Q4_K_M.gguf': gguf, 'tiny-Q8_0.gguf': Buffer.from('other') })
    const error = await failure()
    expect(error.message).toContain('2 GGUF models')
    expect(error.hint).toContain(`${ID}:Q4_K_M`)
    expect(await open(`${ID}:q4_k_m`)).toContain('token_embd.weight')
    expect(hub.requests.some((line) => line.includes('Q8_0'))).toBe(false)
  })

  test('the tokenizer of a model is fetched too', async () => {
    const folder = join(import.meta.dirname, '../../models/stories-7m')
    const files: Record<string, Buffer> = {}
    for (const name of await readdir(folder)) files[name] = await readFile(join(folder, name))
    await start(files)
    const tokenizer = await AutoTokenizer.fromPretrained(ID)
    expect(tokenizer.decode(tokenizer.encode('Once upon a time'))).toBe('Once upon a time')
  })
})

describe('a local path', () => {
  test('comes first, and nothing is asked', async () => {
    const hub = await start()
    await expect(open(join(FIXTURES, 'transformers/models/llama'))).resolves.toContain('model.norm.weight')
    await expect(open('./nowhere/at-all')).rejects.toThrow('there is no such file or folder')
    expect(hub.requests).toEqual([])
  })
})

describe('answers that are none', () => {
  test.each([
    [401, /without a token/, /HF_TOKEN/],
    [403, /may not read/, /terms/],
    [404, /no such model/, /\.\/owner\/name/],
  ])('%i', async (status, message, hint) => {
    const hub = await start()
    hub.faults.statuses = [status]
    const error = await failure()
    expect(error).toBeInstanceOf(FileError)
    expect(error.message).toMatch(message)
    expect(error.hint).toMatch(hint)
    expect(error.fields.status).toBe(status)
  })

  test('"too many requests" and failures of the hub are tried again, not for ever', async () => {
    const hub = await start()
    hub.faults.statuses = [429, 503]
    expect(await open()).toContain('model.norm.weight')
    await rm(home, { recursive: true, force: true })
    hub.faults.statuses = Array(20).fill(429)
    expect((await failure()).message).toContain('fewer requests')
  })

  test('a token from the environment opens what needs one', async () => {
    await start(undefined, true)
    expect((await failure()).fields.status).toBe(401)
    vi.stubEnv('HF_TOKEN', TOKEN)
    expect(await open()).toContain('model.norm.weight')
  })

  test.each([
    ['a size that is too small', { sizeLie: -100 }, /more than the promised/],
    ['a size that is too large', { sizeLie: 100 }, /broke off/],
    ['bytes that are others', { corrupt: true }, /SHA-256/],
  ])('%s leaves nothing under the name of the file', async (_, fault, message) => {
    const hub = await start()
    Object.assign(hub.faults, fault)
    expect((await failure()).message).toMatch(message)
    const snapshot = join(home, 'hub/models--someone--tiny-model/snapshots', COMMIT, 'model.safetensors')
    await expect(stat(snapshot)).rejects.toThrow('ENOENT')
  })

  test('paths that lead out of the cache are left out', async () => {
    const hub = await start()
    hub.files.set('../../evil.json', Buffer.from('{}'))
    await open()
    expect(hub.requests.some((line) => line.includes('evil'))).toBe(false)
  })
})

describe('offline', () => {
  test('the cache is used, and asked nothing', async () => {
    const hub = await start()
    await open()
    hub.requests.length = 0
    vi.stubEnv('HF_HUB_OFFLINE', '1')
    expect(await open()).toContain('model.norm.weight')
    expect(hub.requests).toEqual([])
  })

  test('what was never fetched is an error that says so', async () => {
    await start()
    vi.stubEnv('HF_HUB_OFFLINE', '1')
    expect((await failure()).message).toContain('HF_HUB_OFFLINE is set')
  })

  test('a hub that is gone leaves the cache', async () => {
    const hub = await start()
    await open()
    await hub.close()
    expect(await open()).toContain('model.norm.weight')
  })
})

test('pushToHub uploads what savePretrained writes, and it can be fetched again', async () => {
  const hub = await start(undefined, true)
  const model = await AutoModelForCausalLM.fromPretrained(MODEL, { device: 'reference' })
  await expect(model.pushToHub(ID)).rejects.toMatchObject({ hint: expect.stringContaining('HF_TOKEN') })
  vi.stubEnv('HF_TOKEN', TOKEN)
  expect(await model.pushToHub(ID)).toContain(COMMIT)
  const weights = await readFile(join(MODEL, 'model.safetensors'))
  expect(hub.committed.get('model.safetensors')).toBe(createHash('sha256').update(weights).digest('hex'))
  expect(hub.committed.get('config.json')).toBe(await readFile(join(MODEL, 'config.json'), 'utf8'))
})
