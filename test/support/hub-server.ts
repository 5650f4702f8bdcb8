// A hub on loopback: enough of the real one's API for downloads (revision info, resolve with redirects and ranges) and uploads (create,
// preupload, large files, commit), and the faults that tests ask for.
import { createHash } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface HubFaults {
  /** Status of the next answers, one each; then all is well. */
  statuses?: number[]
  /** The store breaks off after this many bytes of each answer. */
  breakAfter?: number
  /** The store gives no byte more than these in all. */
  totalBytes?: number
  /** Added to the size that the hub promises. */
  sizeLie?: number
  /** The store's bytes differ from the promised hash. */
  corrupt?: boolean
}

export interface FakeHub {
  readonly url: string
  readonly files: Map<string, Buffer>
  readonly faults: HubFaults
  /** `METHOD path [range]` of each request. */
  readonly requests: string[]
  /** What was committed: path -> content, or the SHA-256 of a large file. */
  readonly committed: Map<string, string>
  close(): Promise<void>
}

export const COMMIT: string = 'c'.repeat(40)
export const TOKEN = 'hf_test'

const sha256 = (data: Buffer) => createHash('sha256').update(data).digest('hex')
const sha1 = (data: Buffer) => createHash('sha1').update(data).digest('hex')

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const parts: Buffer[] = []
  for await (const part of request) parts.push(part as Buffer)
  return Buffer.concat(parts)
}

/** Starts a hub that holds `files` as model `id`; `needsToken`: only with TOKEN. */
export async function fakeHub(id: string, files: Record<string, Buffer>, needsToken = false): Promise<FakeHub> {
  const held = new Map(Object.entries(files))
  const faults: HubFaults = {}
  const requests: string[] = []
  const committed = new Map<string, string>()
  const stored = new Map<string, Buffer>()
  const json = (response: ServerResponse, status: number, value: unknown) => {
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value))
  }

  const store = (request: IncomingMessage, response: ServerResponse, data: Buffer) => {
    const bytes = faults.corrupt ? Buffer.from(data.map((byte) => byte ^ 1)) : data
    const range = /bytes=(\d+)-/.exec(request.headers.range ?? '')
    const from = range ? Number(range[1]) : 0
    const part = bytes.subarray(from)
    response.writeHead(range ? 206 : 200, { 'content-length': part.length, etag: '"of-the-store"' })
    const breakAfter = Math.min(faults.breakAfter ?? part.length, faults.totalBytes ?? part.length)
    if (faults.totalBytes !== undefined) faults.totalBytes -= Math.min(part.length, breakAfter)
    if (part.length <= breakAfter) response.end(part)
    else response.write(part.subarray(0, breakAfter), () => response.destroy())
  }

  const upload = async (request: IncomingMessage, response: ServerResponse, path: string) => {
    const body = await bodyOf(request)
    if (path === '/api/repos/create') return json(response, 200, { url: `${server.url}/${id}` })
    if (path === `/api/models/${id}/preupload/main`) {
      const { files: asked } = JSON.parse(body.toString()) as { files: { path: string }[] }
      const modes = asked.map((f) => ({
        path: f.path,
        uploadMode: /safetensors|gguf/.test(f.path) ? 'lfs' : 'regular',
      }))
      return json(response, 200, { files: modes })
    }
    if (path === `/${id}.git/info/lfs/objects/batch`) {
      const { objects } = JSON.parse(body.toString()) as { objects: { oid: string; size: number }[] }
      const actions = (oid: string) => ({ upload: { href: `${server.url}/store/${oid}`, header: {} } })
      return json(response, 200, {
        transfer: 'basic',
        objects: objects.map((o) => ({ ...o, actions: actions(o.oid) })),
      })
    }
    if (path.startsWith('/store/')) {
      stored.set(path.slice('/store/'.length), body)
      return response.writeHead(200).end()
    }
    if (path !== `/api/models/${id}/commit/main`) return json(response, 404, { error: 'no such path' })
    for (const line of body.toString().trim().split('\n')) {
      const { key, value } = JSON.parse(line) as { key: string; value: Record<string, string> }
      if (key === 'file') committed.set(value.path, Buffer.from(value.content, 'base64').toString())
      if (key === 'lfsFile') committed.set(value.path, sha256(stored.get(value.oid) ?? Buffer.alloc(0)))
    }
    return json(response, 200, { commitOid: COMMIT, commitUrl: `${server.url}/${id}/commit/${COMMIT}`, hookOutput: '' })
  }

  const answer = (request: IncomingMessage, response: ServerResponse) => {
    const path = decodeURIComponent(new URL(request.url!, 'http://hub').pathname)
    requests.push([request.method, path, request.headers.range].filter(Boolean).join(' '))
    const status = faults.statuses?.shift()
    if (status) return response.writeHead(status, { 'retry-after': '0' }).end()
    if (path.startsWith('/cdn/')) return store(request, response, held.get(path.slice('/cdn/'.length))!)
    const isStore = path.startsWith('/store/')
    if (needsToken && !isStore && request.headers.authorization !== `Bearer ${TOKEN}`)
      return json(response, 401, { error: 'who?' })
    if (request.method === 'POST' || request.method === 'PUT') return upload(request, response, path)
    if (path.startsWith(`/api/models/${id}/revision/`))
      return json(response, 200, { sha: COMMIT, siblings: [...held.keys()].map((rfilename) => ({ rfilename })) })
    const prefix = `/${id}/resolve/${COMMIT}/`
    const data = path.startsWith(prefix) ? held.get(path.slice(prefix.length)) : undefined
    if (!data) return json(response, 404, { error: 'not found' })
    const isLarge = /safetensors|gguf|\.bin/.test(path)
    const size = data.length + (faults.sizeLie ?? 0)
    if (!isLarge) {
      response.writeHead(200, {
        etag: `"${sha1(data)}"`,
        'content-length': request.method === 'HEAD' ? size : data.length,
      })
      return response.end(request.method === 'HEAD' ? undefined : data)
    }
    return response
      .writeHead(302, {
        location: `${server.url}/cdn/${path.slice(prefix.length)}`,
        'x-linked-etag': `"${sha256(data)}"`,
        'x-linked-size': size,
      })
      .end()
  }

  const listener: Server = createServer((request, response) => void answer(request, response))
  await new Promise<void>((done) => listener.listen(0, '127.0.0.1', done))
  const server = {
    url: `http://127.0.0.1:${(listener.address() as AddressInfo).port}`,
    files: held,
    faults,
    requests,
    committed,
    close: () =>
      new Promise<void>((done) => {
        listener.closeAllConnections()
        listener.close(() => done())
      }),
  }
  return server
}
