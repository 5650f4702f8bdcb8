// The journal of a run as JSON lines: the first says which work it is, each later one what is done. A last line without its newline was
// being written when the process died and is dropped.
import { type FileHandle, open, readFile } from 'node:fs/promises'
import type { Journal, JournalEntry } from '../types.ts'

/** Bytes that no journal of a real model reaches. */
const MAX_JOURNAL_BYTES = 512 * 1024 * 1024

/** What an earlier run left at `path`, if it was the work `key`. */
export async function readJournal(path: string, key: string): Promise<JournalEntry[] | undefined> {
  const text = await readFile(path, 'utf8').catch(() => undefined)
  if (text === undefined || text.length > MAX_JOURNAL_BYTES) return undefined
  const lines = text.split('\n').slice(0, -1)
  const entries: JournalEntry[] = []
  for (const line of lines) {
    try {
      entries.push(JSON.parse(line) as JournalEntry)
    } catch {
      break // damaged from here on: what follows is done again
    }
  }
  return entries[0]?.work === key ? entries.slice(1) : undefined
}

export class DiskJournal implements Journal {
  readonly entries: readonly JournalEntry[]
  readonly discarded: boolean
  private readonly handle: FileHandle
  private waiting = ''
  private last: Promise<void> = Promise.resolve()
  private next: Promise<void> | undefined
  private constructor(handle: FileHandle, entries: readonly JournalEntry[], discarded: boolean) {
    this.handle = handle
    this.entries = entries
    this.discarded = discarded
  }

  /** Begins a journal with the entries that are still good. */
  static async begin(
    path: string,
    key: string,
    entries: readonly JournalEntry[],
    discarded: boolean,
  ): Promise<DiskJournal> {
    const handle = await open(path, 'w')
    await handle.write([{ work: key }, ...entries].map((e) => `${JSON.stringify(e)}\n`).join(''))
    return new DiskJournal(handle, entries, discarded)
  }

  /** Lines that come while others are written are written together. */
  append(entry: JournalEntry): Promise<void> {
    this.waiting += `${JSON.stringify(entry)}\n`
    this.next ??= this.last.then(() => this.flush())
    return this.next
  }

  private async flush(): Promise<void> {
    const text = this.waiting
    this.waiting = ''
    this.last = this.next!
    this.next = undefined
    await this.handle.write(text)
  }

  async close(): Promise<void> {
    await this.handle.close()
  }
}
