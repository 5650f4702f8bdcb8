// Files that a browser hands over (File, Blob): the same reading by range as on a disk, without loading them whole.
import { FileError } from '../core/errors.ts'
import type { ByteSource, FileSet } from './types.ts'

/** One Blob for range reads. */
export function blobSource(name: string, blob: Blob): ByteSource {
  return {
    name,
    size: blob.size,
    read: async (offset, length) => {
      if (offset + length > blob.size)
        throw new FileError(
          `Cannot read "${name}": bytes ${offset} to ${offset + length} were asked for, the file has ${blob.size}`,
          { file: name, offset, expected: offset + length, actual: blob.size },
        )
      return new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer())
    },
    close: async () => {},
  }
}

/** The files that were dropped or chosen together, by name; `single` where one file is meant. */
export function blobFiles(name: string, blobs: ReadonlyMap<string, Blob>, single?: string): FileSet {
  return {
    name,
    single,
    list: async () => [...blobs.keys()].sort(),
    has: async (file) => blobs.has(file),
    open: async (file) => {
      const blob = blobs.get(file)
      if (blob) return blobSource(file, blob)
      throw new FileError(`Cannot open "${file}": it is not among the files of "${name}"`, {
        file,
        found: [...blobs.keys()].slice(0, 20),
      })
    },
  }
}
