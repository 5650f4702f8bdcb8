// Models of the hub through the cache that all Hugging Face programs share: blobs by etag, a snapshot of links for each commit, refs by
// name. A download that broke goes on where it stopped; what the hub promised is checked before a file takes its name.
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { appendFile, mkdir, open, readdir, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { FileError, InterruptedError } from '../../core/errors.ts'
import type { WorkOptions } from '../../core/events.ts'
import { filesOfModel, type HubModel } from '../hub-files.ts'
import { giveLock, takeLock } from './lock.ts'

/** Tries of one request that the hub answers with "too many" or a failure of its own. */
const TRIES = 4
/** Longest wait between two tries, whatever the hub asks for. */
const MAX_WAIT_MS = 30_000
const BETWEEN_TRIES_MS = 500
const COMMIT = /^[0-9a-f]{40}$/
/** Etags of files in large storage are their SHA-256. */
const SHA256 = /^[0-9a-f]{64}$/

const environment = () => process.env
const isOffline = () => ['1', 'true', 'yes', 'on'].includes((environment().HF_HUB_OFFLINE ?? '').toLowerCase())
export const hubEndpoint = (): string => (environment().HF_ENDPOINT ?? 'https://huggingface.co').replace(/\/$/, '')

function home(): string {
  const { HF_HOME, XDG_CACHE_HOME } = environment()
  return HF_HOME ?? join(XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'huggingface')
}

/** HF_TOKEN, or what `hf auth login` left. */
export async function hubToken(): Promise<string | undefined> {
  const { HF_TOKEN, HF_TOKEN_PATH } = environment()
  if (HF_TOKEN) return HF_TOKEN
  const text = await readFile(HF_TOKEN_PATH ?? join(home(), 'token'), 'utf8').catch(() => '')
  return text.trim() || undefined
}

/** Where the cache holds `model`, complete (a folder, or one of its GGUF files); fetched where it is not there. Throws FileError. */
export async function hubSnapshot(model: HubModel, options: WorkOptions = {}): Promise<string> {
  const cache = environment().HF_HUB_CACHE ?? join(home(), 'hub')
  const repo = join(cache, `models--${model.id.replace('/', '--')}`)
  if (isOffline()) return modelIn(await cached(repo, model, 'HF_HUB_OFFLINE is set'), model)
  const { commit, paths } = await describe(model, repo, options)
  if (!commit) return modelIn(await cached(repo, model, 'the hub cannot be reached'), model)
  const folder = join(repo, 'snapshots', commit)
  const wanted = filesOfModel(paths, model)
  for (const [done, path] of wanted.entries()) {
    options.onEvent?.({ event: 'step', name: `fetch ${path}`, done, total: wanted.length })
    await fetchFile(model, commit, path, repo, options)
  }
  await mkdir(join(repo, 'refs'), { recursive: true })
  if (!COMMIT.test(model.revision)) {
    const ref = join(repo, 'refs', model.revision)
    await mkdir(dirname(ref), { recursive: true })
    await writeFile(ref, commit)
  }
  return modelIn(folder, model)
}

/** The folder, or its GGUF file where that is what was asked for. */
async function modelIn(folder: string, model: HubModel): Promise<string> {
  const gguf = filesOfModel(await readdir(folder), model).find((name) => name.endsWith('.gguf'))
  return gguf === undefined ? folder : join(folder, gguf)
}

/** What the cache has of a model. */
async function cached(repo: string, { id, revision }: HubModel, reason: string): Promise<string> {
  const commit = COMMIT.test(revision)
    ? revision
    : (await readFile(join(repo, 'refs', revision), 'utf8').catch(() => '')).trim()
  const folder = join(repo, 'snapshots', commit)
  if (commit && (await stat(folder).catch(() => undefined))?.isDirectory()) return folder
  throw new FileError(`Cannot load "${id}" from the hub: ${reason}, and the cache has no "${revision}" of it`, {
    file: id,
    revision,
    hint: `go online once, or name a local folder (./${id})`,
  })
}

/** The commit that a revision stands for, and its files; no commit where the hub cannot be reached at all. */
async function describe(
  model: HubModel,
  repo: string,
  options: WorkOptions,
): Promise<{ commit?: string; paths: readonly string[] }> {
  const url = `${hubEndpoint()}/api/models/${model.id}/revision/${encodeURIComponent(model.revision)}`
  const response = await request(url, {}, model, options).catch(async (e) => {
    const known = await cached(repo, model, '').catch(() => undefined)
    if (!(e instanceof FileError) || e.fields.status !== undefined || !known) throw e
    options.onEvent?.({ event: 'warning', message: `${e.message}: what the cache has is used` })
    return undefined
  })
  if (!response) return { paths: [] }
  const answer = (await response.json().catch(() => ({}))) as { sha?: unknown; siblings?: unknown }
  const siblings = Array.isArray(answer.siblings) ? answer.siblings : []
  const paths = siblings
    .map((one) => (one as { rfilename?: unknown }).rfilename)
    .filter((path) => typeof path === 'string')
  if (typeof answer.sha !== 'string' || !COMMIT.test(answer.sha) || paths.length === 0)
    throw new FileError(`Cannot load "${model.id}" from the hub: its answer names no commit or no files`, {
      file: model.id,
      hint: 'try again later',
    })
  return { commit: answer.sha, paths: paths.filter(isPlainPath) }
}

/** Neither absolute nor upwards: a path becomes a file name below the cache. */
function isPlainPath(path: string): boolean {
  return path.split('/').every((part) => part !== '' && part !== '.' && part !== '..' && !/[\\:\0]/.test(part))
}

async function fetchFile(
  model: HubModel,
  commit: string,
  path: string,
  repo: string,
  options: WorkOptions,
): Promise<void> {
  const link = join(repo, 'snapshots', commit, path)
  if (await stat(link).catch(() => undefined)) return
  const url = `${hubEndpoint()}/${model.id}/resolve/${commit}/${path.split('/').map(encodeURIComponent).join('/')}`
  const { etag, size } = await promised(url, model, path, options)
  const blob = join(repo, 'blobs', etag)
  await mkdir(dirname(blob), { recursive: true })
  if (!(await stat(blob).catch(() => undefined))) {
    const lock = `${blob}.lock`
    await takeLock(lock, path)
    try {
      await download({ url, blob, etag, size, path, model }, options)
    } finally {
      await giveLock(lock)
    }
  }
  await mkdir(dirname(link), { recursive: true })
  await symlink(relative(dirname(link), blob), link).catch(async (e: NodeJS.ErrnoException) => {
    if (e.code !== 'EEXIST') throw e
    await rm(link, { force: true }) // a link whose blob was deleted
    await symlink(relative(dirname(link), blob), link)
  })
}

/** What the hub says of a file before it is fetched. */
async function promised(
  url: string,
  model: HubModel,
  path: string,
  options: WorkOptions,
): Promise<{ etag: string; size: number }> {
  // The answer of the hub itself, not of the store that it redirects to, has the etag that names the blob.
  const response = await request(url, { method: 'HEAD', redirect: 'manual' }, model, options)
  const header = (name: string) => response.headers.get(name) ?? undefined
  const etag = (header('x-linked-etag') ?? header('etag') ?? '').replace(/^W\//, '').replaceAll('"', '')
  const size = Number(header('x-linked-size') ?? header('content-length') ?? Number.NaN)
  if (/^[\w-]{6,128}$/.test(etag) && Number.isSafeInteger(size) && size >= 0) return { etag, size }
  throw new FileError(`Cannot fetch "${path}" of "${model.id}": the hub says neither its etag nor its size`, {
    file: path,
    hint: 'try again later',
  })
}

interface Download {
  readonly url: string
  readonly blob: string
  readonly etag: string
  readonly size: number
  readonly path: string
  readonly model: HubModel
}

/** Appends to `BLOB.incomplete` until it has the promised size, checks it, and gives it its name. */
async function download(file: Download, options: WorkOptions): Promise<void> {
  const { blob, size, path, model } = file
  const partial = `${blob}.incomplete`
  let attempt = 0
  for (let before = -1; ; ) {
    const have = (await stat(partial).catch(() => undefined))?.size ?? 0
    attempt = have > before ? 1 : attempt + 1 // only tries that bring nothing count
    before = have
    if (have > size) await rm(partial)
    else if (have === size && (have > 0 || size === 0)) break
    if (attempt > TRIES)
      throw new FileError(`Cannot fetch "${path}" of "${model.id}": it broke off at byte ${have} of ${size}`, {
        file: path,
        expected: size,
        actual: have,
        hint: 'type the same command again to go on',
      })
    await append(file, partial, have > size ? 0 : have, options)
  }
  if (size === 0) await writeFile(partial, '')
  await check(file, partial)
  await rename(partial, blob)
}

/** Fetches from byte `from` on; ends early where the connection breaks, and the next attempt goes on there. */
async function append(file: Download, partial: string, from: number, options: WorkOptions): Promise<void> {
  const { url, size, path, model } = file
  const headers: Record<string, string> = from > 0 ? { Range: `bytes=${from}-` } : {}
  const response = await request(url, { headers }, model, options)
  if (from > 0 && response.status !== 206) await rm(partial, { force: true }) // the whole file comes again
  let done = from > 0 && response.status === 206 ? from : 0
  try {
    for await (const bytes of response.body ?? []) {
      options.signal?.throwIfAborted()
      if (done + bytes.length > size) {
        await rm(partial, { force: true })
        throw new FileError(`Cannot fetch "${path}" of "${model.id}": more than the promised ${size} bytes came`, {
          file: path,
          expected: size,
          hint: 'try again later',
        })
      }
      await appendFile(partial, bytes)
      done += bytes.length
      options.onEvent?.({ event: 'progress', name: 'fetch', done, total: size, unit: 'bytes', tensor: path })
    }
  } catch (e) {
    if (e instanceof FileError) throw e
    if (options.signal?.aborted)
      throw new InterruptedError(`Interrupted while fetching "${path}"`, {
        file: path,
        hint: 'type the same command again to go on',
      })
  }
}

/** A file of large storage must have the hash that its etag is. */
async function check({ etag, path, model }: Download, partial: string): Promise<void> {
  const handle = await open(partial, 'r+')
  await handle.sync().finally(() => handle.close())
  if (!SHA256.test(etag)) return
  const hash = createHash('sha256')
  for await (const bytes of createReadStream(partial)) hash.update(bytes)
  const actual = hash.digest('hex')
  if (actual === etag) return
  await rm(partial, { force: true })
  throw new FileError(`Cannot fetch "${path}" of "${model.id}": its SHA-256 is not the promised one`, {
    file: path,
    expected: etag,
    actual,
    hint: 'try again: it came damaged',
  })
}

/** One request with the user's token; "too many" and failures of the hub are tried again. Throws FileError. */
async function request(
  url: string,
  init: RequestInit & { headers?: Record<string, string> },
  model: HubModel,
  { signal }: WorkOptions,
): Promise<Response> {
  const token = await hubToken()
  const headers = { 'user-agent': 'fewbit', ...init.headers, ...(token ? { authorization: `Bearer ${token}` } : {}) }
  for (let attempt = 1; ; attempt++) {
    const response = await fetch(url, { ...init, headers, signal }).catch((cause: unknown) => cause as Error)
    if (response instanceof Error) {
      if (signal?.aborted) throw new InterruptedError(`Interrupted while fetching "${model.id}"`, { file: model.id })
      if (attempt < TRIES) await pause(undefined, attempt)
      else throw unreachable(model, response)
      continue
    }
    const isRedirect = response.status >= 300 && response.status < 400 && init.redirect === 'manual'
    if (response.ok || isRedirect) return response
    const again = response.status === 429 || response.status >= 500
    if (!again || attempt >= TRIES) throw refusal(model, response)
    await pause(response.headers.get('retry-after') ?? undefined, attempt)
  }
}

async function pause(retryAfter: string | undefined, attempt: number): Promise<void> {
  const asked = Number(retryAfter) * 1000
  const wait = Number.isFinite(asked) && asked >= 0 ? asked : BETWEEN_TRIES_MS * 2 ** (attempt - 1)
  await new Promise((done) => setTimeout(done, Math.min(wait, MAX_WAIT_MS)))
}

function unreachable({ id }: HubModel, cause: Error): FileError {
  return new FileError(`Cannot load "${id}" from the hub: ${hubEndpoint()} cannot be reached`, {
    file: id,
    cause,
    hint: `check the network, or name a local folder (./${id})`,
  })
}

/** What a status means for the user. */
const MEANINGS: Readonly<Record<number, readonly [meaning: string, hint: string]>> = {
  401: [
    'the hub does not show it without a token (or there is no such model)',
    'set HF_TOKEN to a token that may read it',
  ],
  403: ['the token may not read it', 'accept its terms on its page, or set HF_TOKEN to a token that may read it'],
  404: ['the hub has no such model, revision or file', 'check the name; a local folder is named ./owner/name'],
  429: ['the hub asks for fewer requests', 'wait a minute, or set HF_TOKEN'],
}

function refusal({ id, revision }: HubModel, { status }: Response): FileError {
  const [meaning, hint] = MEANINGS[status] ?? [`the hub answers with status ${status}`, 'try again later']
  return new FileError(`Cannot load "${id}" from the hub: ${meaning}`, { file: id, revision, status, hint })
}
