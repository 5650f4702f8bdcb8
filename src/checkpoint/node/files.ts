// Files of the local disk: folders and single files as FileSet, range reads by FileHandle.
import type { Stats } from 'node:fs'
import { type FileHandle, mkdtemp, open, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { FileError } from '../../core/errors.ts'
import type { ByteSource, FileSet } from '../types.ts'
import { recoverCommit } from './commit.ts'

class DiskSource implements ByteSource {
  readonly name: string
  readonly size: number
  readonly modifiedMs: number
  private readonly handle: FileHandle
  constructor(name: string, size: number, modifiedMs: number, handle: FileHandle) {
    this.name = name
    this.size = size
    this.modifiedMs = modifiedMs
    this.handle = handle
  }

  async read(offset: number, length: number, into?: Uint8Array): Promise<Uint8Array> {
    if (offset + length > this.size) {
      throw new FileError(
        `Cannot read "${this.name}": bytes ${offset} to ${offset + length} were asked for, the file has ${this.size}`,
        {
          file: this.name,
          offset,
          expected: offset + length,
          actual: this.size,
        },
      )
    }
    const bytes = into && into.length >= length ? into.subarray(0, length) : new Uint8Array(length)
    let done = 0
    while (done < length) {
      const { bytesRead } = await this.handle.read(bytes, done, Math.min(length - done, 1 << 30), offset + done)
      if (bytesRead === 0)
        throw new FileError(`Cannot read "${this.name}": it became shorter while being read`, { file: this.name })
      done += bytesRead
    }
    return bytes
  }

  async close(): Promise<void> {
    await this.handle.close()
  }
}

/** Opens one file for range reads. */
export async function openFile(path: string, name = basename(path)): Promise<ByteSource> {
  let handle: FileHandle
  try {
    handle = await open(path, 'r')
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code
    throw new FileError(`Cannot open "${path}": ${code === 'ENOENT' ? 'there is no such file' : code}`, {
      file: path,
      cause,
    })
  }
  const info = await handle.stat()
  if (!info.isFile()) {
    await handle.close()
    throw new FileError(`Cannot open "${path}": it is not a regular file`, { file: path })
  }
  return new DiskSource(name, info.size, info.mtimeMs, handle)
}

/** Names of the regular files of a folder; links to files count (the hub's cache is made of them). */
async function listFiles(folder: string): Promise<string[]> {
  const names: string[] = []
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const isLink = entry.isSymbolicLink()
    if (entry.isFile() || (isLink && (await stat(join(folder, entry.name)).catch(() => undefined))?.isFile()))
      names.push(entry.name)
  }
  return names.sort()
}

/** A new folder of this process's own. */
export async function temporaryFolder(): Promise<{ readonly path: string; remove(): Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), 'fewbit-'))
  return { path, remove: () => rm(path, { recursive: true, force: true }) }
}

/** What a commit that died among its renames had moved away; a part of a split model is known by the name of the whole. */
async function restored(path: string): Promise<Stats | undefined> {
  for (const whole of new Set([path, path.replace(/-\d{5}-of-\d{5}(?=\.gguf$)/, '')])) await recoverCommit(whole)
  return stat(path).catch(() => undefined)
}

/** The files of a folder, or a set of one where `path` is a file (its siblings can be opened by name: shards). */
export async function localFiles(path: string): Promise<FileSet & { single: string | undefined }> {
  const info = (await stat(path).catch(() => undefined)) ?? (await restored(path))
  if (!info)
    throw new FileError(`Cannot open "${path}": there is no such file or folder`, {
      file: path,
      hint: 'check the path, or type "embedded" for the model that comes with fewbit',
    })
  const folder = info.isDirectory() ? path : dirname(path)
  const checked = (name: string) => {
    if (name !== basename(name) || name === '..' || name === '') {
      throw new FileError(`Cannot open "${name}": a model's files must lie in its own folder`, { file: name, folder })
    }
    return join(folder, name)
  }
  return {
    name: path,
    single: info.isDirectory() ? undefined : basename(path),
    list: async () => listFiles(folder),
    has: async (name) => (await stat(checked(name)).catch(() => undefined))?.isFile() ?? false,
    open: async (name) => openFile(checked(name), name),
    folder: async (name) => {
      const inner = checked(name)
      return (await stat(inner).catch(() => undefined))?.isDirectory() ? localFiles(inner) : undefined
    },
  }
}
