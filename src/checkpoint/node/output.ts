// Output that appears whole or not at all: everything is written into OUT.fewbit-partial/ and renamed when complete.
import { type FileHandle, mkdir, open, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { FileError } from '../../core/errors.ts'
import type { ByteSink, OutputStore } from '../types.ts'
import { openFile } from './files.ts'

class DiskSink implements ByteSink {
  private at = 0
  private readonly handle: FileHandle
  constructor(handle: FileHandle) {
    this.handle = handle
  }
  async write(bytes: Uint8Array): Promise<void> {
    await this.writeAt(this.at, bytes)
    this.at += bytes.length
  }
  async writeAt(offset: number, bytes: Uint8Array): Promise<void> {
    let done = 0
    while (done < bytes.length)
      done += (await this.handle.write(bytes, done, Math.min(bytes.length - done, 1 << 30), offset + done)).bytesWritten
  }
  async close(): Promise<void> {
    await this.handle.sync()
    await this.handle.close()
  }
}

/** Throws where `path` exists and `force` is not set. Call before any work. */
export async function assertFree(path: string, force: boolean): Promise<void> {
  const exists = await stat(path).catch(() => undefined)
  if (exists && !force)
    throw new FileError(`Cannot write "${path}": it exists already`, {
      file: path,
      hint: 'choose another name, or add --force to replace it',
    })
}

/** A folder (`single` undefined) or one file that appears at `path` on commit. */
export async function outputStore(path: string, options: { force: boolean; single?: boolean }): Promise<OutputStore> {
  await assertFree(path, options.force)
  const partial = `${path}.fewbit-partial`
  await rm(partial, { recursive: true, force: true })
  await mkdir(partial, { recursive: true })
  return {
    name: path,
    create: async (file) => new DiskSink(await open(join(partial, file), 'w')),
    reopen: async (file) => openFile(join(partial, file), file),
    remove: async (file) => rm(join(partial, file), { force: true }),
    abort: async () => rm(partial, { recursive: true, force: true }),
    commit: async () => {
      await assertFree(path, options.force)
      const old = `${path}.fewbit-old`
      await rm(old, { recursive: true, force: true })
      if (await stat(path).catch(() => undefined)) await rename(path, old)
      else await mkdir(dirname(path), { recursive: true })
      if (options.single) {
        const files = join(partial, path.split(/[\\/]/).at(-1)!)
        await rename(files, path)
        await rm(partial, { recursive: true, force: true })
      } else await rename(partial, path)
      await rm(old, { recursive: true, force: true })
    },
  }
}
