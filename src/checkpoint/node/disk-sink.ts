// Files being written: at any offset, by several writes at once, told to the disk early and known to be on it when they are closed.
import type { FileHandle } from 'node:fs/promises'
import { rm } from 'node:fs/promises'
import { FileError } from '../../core/errors.ts'
import type { ByteSink, ScratchFile } from '../types.ts'

/** Bytes that one system call takes on every system. */
const CALL_BYTES = 1 << 30
/** Bytes after which the disk is told to begin: what is on its way need not be waited for at the end. */
const SYNC_BYTES = 64 * 1024 * 1024

export class DiskSink implements ByteSink {
  private at = 0
  private unsynced = 0
  private syncing: Promise<void> | undefined
  private failure: unknown
  private readonly handle: FileHandle
  private readonly path: string
  constructor(handle: FileHandle, path: string) {
    this.handle = handle
    this.path = path
  }

  async write(bytes: Uint8Array): Promise<void> {
    await this.writeAt(this.at, bytes)
    this.at += bytes.length
  }

  async writeAt(offset: number, bytes: Uint8Array): Promise<void> {
    let done = 0
    try {
      while (done < bytes.length) {
        const count = Math.min(bytes.length - done, CALL_BYTES)
        done += (await this.handle.write(bytes, done, count, offset + done)).bytesWritten
      }
    } catch (cause) {
      throw writeError(this.path, cause)
    }
    this.unsynced += bytes.length
    if (this.unsynced >= SYNC_BYTES) this.beginSync()
  }

  private beginSync(): void {
    if (this.syncing) return
    this.unsynced = 0
    const done = () => {
      this.syncing = undefined
    }
    // The system reports a failure once: it is kept for close().
    this.syncing = this.handle.datasync().then(done, (cause) => {
      this.failure ??= cause
      done()
    })
  }

  async close(): Promise<void> {
    try {
      await this.syncing
      if (this.failure !== undefined) throw this.failure
      await this.handle.sync()
    } catch (cause) {
      throw writeError(this.path, cause)
    } finally {
      await this.handle.close()
    }
  }
}

export class DiskScratch implements ScratchFile {
  private readonly sink: DiskSink
  private readonly handle: FileHandle
  private readonly path: string
  constructor(handle: FileHandle, path: string) {
    this.sink = new DiskSink(handle, path)
    this.handle = handle
    this.path = path
  }

  write(offset: number, bytes: Uint8Array): Promise<void> {
    return this.sink.writeAt(offset, bytes)
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length)
    let done = 0
    while (done < length) {
      const { bytesRead } = await this.handle.read(bytes, done, Math.min(length - done, CALL_BYTES), offset + done)
      if (bytesRead === 0)
        throw new FileError(`Cannot read "${this.path}": it is shorter than written`, { file: this.path })
      done += bytesRead
    }
    return bytes
  }

  async remove(): Promise<void> {
    await this.handle.close()
    await rm(this.path, { force: true })
  }
}

/** A failed system call as a FileError with the way on. */
export function writeError(path: string, cause: unknown): FileError {
  const code = (cause as NodeJS.ErrnoException).code ?? String(cause)
  const full = code === 'ENOSPC' || code === 'EDQUOT'
  return new FileError(`Cannot write "${path}": ${full ? 'the disk is full' : code}`, {
    file: path,
    cause,
    actual: code,
    hint: full
      ? 'make room and type the same command again: it goes on where it stopped'
      : 'check that the folder exists and may be written',
  })
}
