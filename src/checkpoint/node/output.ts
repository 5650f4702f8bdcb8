// Output that appears whole or not at all: everything is written below OUT.fewbit-partial/ and renamed when complete.
//   OUT.fewbit-partial/lock            process that is writing
//   OUT.fewbit-partial/journal.jsonl   what is done
//   OUT.fewbit-partial/files/          the output itself
//   OUT.fewbit-partial/scratch/        values that do not fit into memory
// and while it gets its name (commit.ts) a record of that.
import { mkdir, open, readdir, realpath, rm } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { crc32 } from 'node:zlib'
import { FileError } from '../../core/errors.ts'
import type { ByteSink, ByteSource, Journal, OutputStore, ScratchFile, ScratchStore } from '../types.ts'
import { commitMoves, FILES, type Move, recoverCommit, recoverLocked } from './commit.ts'
import { DiskScratch, DiskSink, writeError } from './disk-sink.ts'
import { openFile } from './files.ts'
import { DiskJournal, readJournal } from './journal.ts'
import { giveLock, takeLock } from './lock.ts'
import { exists, lockOf, partialOf, syncFolder } from './paths.ts'

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
    this.partial = partialOf(path)
    this.files = join(this.partial, FILES)
    this.force = options.force
  }

  private get lock(): string {
    return lockOf(this.partial)
  }

  private async begin(): Promise<void> {
    if (this.locked) return
    try {
      await mkdir(this.partial, { recursive: true })
    } catch (cause) {
      throw writeError(this.partial, cause)
    }
    await takeLock(this.lock, this.name)
    this.locked = true
    await recoverLocked(this.partial)
    await mkdir(this.files, { recursive: true })
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
    for (const { to } of moves) await this.assertFree(to)
    await syncFolder(this.files)
    try {
      await commitMoves(this.partial, moves)
    } catch (cause) {
      throw writeError(this.name, cause)
    }
    await this.abort()
  }

  /** What becomes what: the folder, the file, or each file that it was split into. */
  private async moves(): Promise<Move[]> {
    if (this.single === undefined) return [{ from: FILES, to: basename(this.name) }]
    const names = (await readdir(this.files)).sort()
    return names.map((name) => ({ from: join(FILES, name), to: name }))
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

/** A folder (`single` unset) or one file that appears at `path` on commit. Nothing is created before the first write. */
export async function outputStore(given: string, options: OutputOptions): Promise<OutputStore> {
  const path = given.replace(process.platform === 'win32' ? /(?<=.)[\\/]+$/ : /(?<=.)\/+$/, '')
  await recoverCommit(path)
  await assertFree(path, options.force)
  if (options.source !== undefined) await assertNotSource(path, options.source)
  return new DiskOutput(path, options)
}
