// Output that appears whole or not at all: everything is written below OUT.fewbit-partial/ and renamed when complete.
//   OUT.fewbit-partial/lock            process that is writing
//   OUT.fewbit-partial/journal.jsonl   what is done
//   OUT.fewbit-partial/files/          the output itself
//   OUT.fewbit-partial/scratch/        values that do not fit into memory
import { type FileHandle, mkdir, open, readdir, realpath, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { crc32 } from 'node:zlib'
import { FileError } from '../../core/errors.ts'
import type { ByteSink, ByteSource, Journal, OutputStore, ScratchFile, ScratchStore } from '../types.ts'
import { openFile } from './files.ts'
import { DiskJournal, readJournal } from './journal.ts'
import { giveLock, takeLock } from './lock.ts'

const WRITE_BYTES = 1 << 30
/** Bytes after which the disk is told to begin: what is on its way need not be waited for at the end. */
const SYNC_BYTES = 128 * 1024 * 1024

class DiskSink implements ByteSink {
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
        const count = Math.min(bytes.length - done, WRITE_BYTES)
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

class DiskScratch implements ScratchFile {
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
      const { bytesRead } = await this.handle.read(bytes, done, Math.min(length - done, WRITE_BYTES), offset + done)
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
function writeError(path: string, cause: unknown): FileError {
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

async function exists(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined)) !== undefined
}

/** Throws where `path` exists and `force` is not set. Call before any work. */
export async function assertFree(path: string, force: boolean): Promise<void> {
  if (!force && (await exists(path)))
    throw new FileError(`Cannot write "${path}": it exists already`, {
      file: path,
      hint: 'choose another name, or add --force to replace it',
    })
}

/** Throws where the output would replace the model that is being read. */
async function assertNotSource(path: string, source: string): Promise<void> {
  const [a, b] = await Promise.all([path, source].map((p) => realpath(p).catch(() => resolve(p))))
  if (a !== b && dirname(b) !== a) return
  throw new FileError(`Cannot write "${path}": it is the model that is being read`, {
    file: path,
    hint: 'choose another name for the output',
  })
}

interface Move {
  readonly from: string
  readonly to: string
}

export interface OutputOptions {
  readonly force: boolean
  /** The output is one file, not a folder. */
  readonly single?: boolean
  /** Path of what is being read: never replaced. */
  readonly source?: string
}

class DiskOutput implements OutputStore {
  readonly name: string
  readonly single: string | undefined
  readonly partial: string
  private readonly files: string
  private readonly force: boolean
  readonly scratch: ScratchStore = { create: () => this.createScratch() }
  private scratchFiles = 0
  private current: DiskJournal | undefined
  private locked = false

  constructor(path: string, options: OutputOptions) {
    this.name = path
    this.single = options.single ? basename(path) : undefined
    this.partial = `${path}.fewbit-partial`
    this.files = join(this.partial, 'files')
    this.force = options.force
  }

  private get lock(): string {
    return join(this.partial, 'lock')
  }

  private async begin(): Promise<void> {
    if (this.locked) return
    try {
      await mkdir(this.files, { recursive: true })
    } catch (cause) {
      throw writeError(this.partial, cause)
    }
    await takeLock(this.lock, this.name)
    this.locked = true
  }

  /** First use without a journal: nothing of an earlier run is kept. */
  private async fresh(): Promise<void> {
    if (this.locked) return
    await this.begin()
    await this.dropFiles()
  }

  private async dropFiles(): Promise<void> {
    await rm(this.files, { recursive: true, force: true })
    await rm(join(this.partial, 'journal.jsonl'), { force: true })
    await mkdir(this.files, { recursive: true })
  }

  async journal(key: string): Promise<Journal> {
    await this.begin()
    const path = join(this.partial, 'journal.jsonl')
    const entries = await readJournal(path, key)
    const discarded = entries === undefined && (await exists(path))
    if (!entries) await this.dropFiles()
    await rm(join(this.partial, 'scratch'), { recursive: true, force: true })
    this.current = await DiskJournal.begin(path, key, entries ?? [], discarded)
    return this.current
  }

  private async sink(file: string, flags: string): Promise<ByteSink> {
    await this.fresh()
    const path = join(this.files, file)
    try {
      if (dirname(path) !== this.files) await mkdir(dirname(path), { recursive: true })
      return new DiskSink(await open(path, flags), path)
    } catch (cause) {
      throw writeError(path, cause)
    }
  }

  private async createScratch(): Promise<ScratchFile> {
    const folder = join(this.partial, 'scratch')
    const path = join(folder, String(this.scratchFiles++))
    try {
      await mkdir(folder, { recursive: true })
      return new DiskScratch(await open(path, 'w+'), path)
    } catch (cause) {
      throw writeError(path, cause)
    }
  }

  assertFree(file: string): Promise<void> {
    return assertFree(join(dirname(this.name), file), this.force)
  }

  create(file: string): Promise<ByteSink> {
    return this.sink(file, 'w')
  }

  async resume(file: string): Promise<ByteSink> {
    return this.sink(file, (await exists(join(this.files, file))) ? 'r+' : 'w+')
  }

  reopen(file: string): Promise<ByteSource> {
    return openFile(join(this.files, file), file)
  }

  async remove(file: string): Promise<void> {
    await rm(join(this.files, file), { force: true })
  }

  checksum(bytes: Uint8Array, before = 0): number {
    return crc32(bytes, before)
  }

  async commit(): Promise<void> {
    const moves = await this.moves()
    for (const { to } of moves) await assertFree(to, this.force)
    await syncFolder(this.files)
    const undo: (() => Promise<void>)[] = []
    try {
      for (const move of moves) await this.replace(move, moves.length > 1, undo)
    } catch (cause) {
      for (const step of undo.reverse()) await step()
      throw writeError(this.name, cause)
    }
    await syncFolder(dirname(resolve(this.name)))
    for (const { to } of moves) await rm(oldOf(to), { recursive: true, force: true })
    await this.abort()
  }

  /** What becomes what: the folder, the file, or each file that it was split into; the first of them last, for without it none opens. */
  private async moves(): Promise<Move[]> {
    if (this.single === undefined) return [{ from: this.files, to: this.name }]
    const names = (await readdir(this.files)).sort().reverse()
    return names.map((name) => ({ from: join(this.files, name), to: join(dirname(this.name), name) }))
  }

  /** A file replaces a file in one step; a folder, or one of several files, is moved aside first, and back where a later step fails. */
  private async replace({ from, to }: Move, isPart: boolean, undo: (() => Promise<void>)[]): Promise<void> {
    const old = oldOf(to)
    await rm(old, { recursive: true, force: true })
    const inOneStep = this.single !== undefined && !isPart
    if ((await exists(to)) && !(inOneStep && (await stat(to)).isFile())) {
      await rename(to, old)
      undo.push(() => rename(old, to))
    }
    await rename(from, to)
    undo.push(() => rename(to, from))
  }

  async release(): Promise<void> {
    await this.current?.close()
    this.current = undefined
    if (this.locked) await giveLock(this.lock)
    this.locked = false
  }

  async abort(): Promise<void> {
    await this.release()
    await rm(this.partial, { recursive: true, force: true })
  }
}

/** Makes renames below a folder durable; a system that cannot sync folders (Windows) has nothing to do. */
async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, 'r').catch(() => undefined)
  await handle?.sync().catch(() => undefined)
  await handle?.close()
}

/** Where a commit moves what it replaces. */
const oldOf = (path: string) => `${path}.fewbit-old`

/** Puts back what a commit that died between its two renames moved aside. */
async function restore(path: string): Promise<void> {
  const old = oldOf(path)
  if ((await exists(old)) && !(await exists(path))) await rename(old, path)
}

/** A folder (`single` unset) or one file that appears at `path` on commit. Nothing is created before the first write. */
export async function outputStore(path: string, options: OutputOptions): Promise<OutputStore> {
  await restore(path)
  await assertFree(path, options.force)
  if (options.source !== undefined) await assertNotSource(path, options.source)
  return new DiskOutput(path, options)
}
