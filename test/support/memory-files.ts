// A model's files in memory: what tests build, damage and read without touching the disk.
import type { ByteSource, FileSet } from '../../src/checkpoint/types.ts'
import { FileError } from '../../src/core/errors.ts'

export function memorySource(name: string, bytes: Uint8Array): ByteSource {
  return {
    name,
    size: bytes.length,
    read: async (offset, length) => {
      if (offset < 0 || length < 0 || offset + length > bytes.length)
        throw new FileError(`Cannot read "${name}": bytes ${offset} to ${offset + length} of ${bytes.length}`, {
          file: name,
        })
      return bytes.slice(offset, offset + length)
    },
    close: async () => {},
  }
}

export function memoryFiles(contents: Record<string, Uint8Array | string>, single?: string): FileSet {
  const files = new Map(
    Object.entries(contents).map(([name, data]) => [
      name,
      typeof data === 'string' ? new TextEncoder().encode(data) : data,
    ]),
  )
  return {
    name: 'memory',
    single,
    list: async () => [...files.keys()].sort(),
    has: async (name) => files.has(name),
    open: async (name) => {
      const bytes = files.get(name)
      if (!bytes) throw new FileError(`Cannot open "${name}": there is no such file`, { file: name })
      return memorySource(name, bytes)
    },
  }
}
