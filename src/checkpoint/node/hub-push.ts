// A folder or file to the hub, by its own client: creates the repository where it is not there, uploads what changed, commits once.
import { readdir, stat } from 'node:fs/promises'
import { basename, join, relative, sep } from 'node:path'
import { pathToFileURL } from 'node:url'
import { FileError } from '../../core/errors.ts'
import { hubEndpoint, hubToken } from './hub.ts'

export interface PushOptions {
  /** Default: HF_TOKEN, or what `hf auth login` left. */
  readonly token?: string
  /** Visibility of a repository that is created. Default: the account's own setting. */
  readonly private?: boolean
  readonly commitMessage?: string
  readonly revision?: string
  readonly signal?: AbortSignal
}

/** Uploads what lies at `path` to the model repository `id`; the URL of the commit. Throws FileError. */
export async function pushToHub(path: string, id: string, options: PushOptions = {}): Promise<string> {
  const accessToken = options.token ?? (await hubToken())
  if (!accessToken)
    throw new FileError(`Cannot write "${id}" to the hub: there is no token`, {
      file: id,
      hint: 'set HF_TOKEN to a token that may write',
    })
  const { createRepo, uploadFiles } = await import('@huggingface/hub')
  const repo = { type: 'model', name: id } as const
  const common = { repo, accessToken, hubUrl: hubEndpoint() }
  try {
    await createRepo({ ...common, visibility: visibility(options) }).catch((e: unknown) => {
      if (statusOf(e) !== 409) throw e // it is there already
    })
    const done = await uploadFiles({
      ...common,
      files: await filesBelow(path),
      branch: options.revision,
      commitTitle: options.commitMessage ?? 'Upload model with fewbit',
      abortSignal: options.signal,
    })
    return done?.commit.url ?? `${hubEndpoint()}/${id}`
  } catch (cause) {
    const status = statusOf(cause)
    const meaning = cause instanceof Error ? cause.message : String(cause)
    throw new FileError(`Cannot write "${id}" to the hub: ${meaning}`, {
      file: id,
      status,
      cause,
      hint: status === 401 || status === 403 ? 'set HF_TOKEN to a token that may write there' : 'try again later',
    })
  }
}

function visibility(options: PushOptions): 'public' | 'private' | undefined {
  return options.private === undefined ? undefined : options.private ? 'private' : 'public'
}

function statusOf(e: unknown): number | undefined {
  const status = (e as { statusCode?: unknown } | undefined)?.statusCode
  return typeof status === 'number' ? status : undefined
}

async function filesBelow(path: string): Promise<{ path: string; content: URL }[]> {
  if ((await stat(path)).isFile()) return [{ path: basename(path), content: pathToFileURL(path) }]
  const entries = await readdir(path, { recursive: true, withFileTypes: true })
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort()
    .map((file) => ({ path: relative(path, file).split(sep).join('/'), content: pathToFileURL(file) }))
}
