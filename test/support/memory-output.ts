// An output that lives in memory: what a model is saved to when only its bytes matter.
import { crc32 } from 'node:zlib'
import type { ByteSink, FileSet, OutputStore } from '../../src/checkpoint/types.ts'
import { FileError } from '../../src/core/errors.ts'
import { memoryFiles, memorySource } from './memory-files.ts'

export interface MemoryOutput extends OutputStore {
  /** Bytes by file name, once committed. */
  readonly saved: Readonly<Record<string, Uint8Array>>
  /** What was saved, as a model's files. */
  files(): FileSet
}

class MemorySink implements ByteSink {
  private bytes: Uint8Array
  private at = 0
  private readonly store: Map<string, Uint8Array>
  private readonly name: string
  constructor(store: Map<string, Uint8Array>, name: string) {
    this.store = store
    this.name = name
    this.bytes = store.get(name) ?? new Uint8Array(0)
    store.set(name, this.bytes)
  }
  async write(bytes: Uint8Array): Promise<void> {
    await this.writeAt(this.at, bytes)
    this.at += bytes.length
  }
  async writeAt(offset: number, bytes: Uint8Array): Promise<void> {
    const end = offset + bytes.length
    if (end > this.bytes.length) {
      const { buffer } = this.bytes
      const room = buffer.byteLength >= end ? (buffer as ArrayBuffer) : new ArrayBuffer(2 * end)
      const grown = new Uint8Array(room, 0, end)
      if (room !== buffer) grown.set(this.bytes)
      this.bytes = grown
    }
    this.bytes.set(bytes, offset)
    this.store.set(this.name, this.bytes)
  }
  async close(): Promise<void> {}
}

/** `single`: the output is one file of that name. */
export function memoryOutput(single?: string): MemoryOutput {
  const partial = new Map<string, Uint8Array>()
  const saved: Record<string, Uint8Array> = {}
  return {
    name: single ?? 'memory',
    single,
    partial: 'memory.fewbit-partial',
    saved,
    files: () => memoryFiles(saved, single),
    journal: async () => ({ entries: [], discarded: false, append: async () => {} }),
    create: async (file) => {
      partial.delete(file)
      return new MemorySink(partial, file)
    },
    resume: async (file) => new MemorySink(partial, file),
    reopen: async (file) => {
      const bytes = partial.get(file)
      if (!bytes) throw new FileError(`Cannot open "${file}": there is no such file`, { file })
      return memorySource(file, bytes)
    },
    remove: async (file) => {
      partial.delete(file)
    },
    checksum: (bytes, before = 0) => crc32(bytes, before),
    commit: async () => {
      for (const [file, bytes] of partial) saved[file] = bytes.slice()
    },
    release: async () => {},
    abort: async () => partial.clear(),
  }
}
