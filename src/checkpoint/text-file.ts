// Small files of a model that are read whole: config.json, an index, a tokenizer.
import { FileError } from '../core/errors.ts'
import type { FileSet } from './types.ts'

/** Larger than any real config, index or tokenizer. */
const MAX_BYTES = 64 * 1024 * 1024

/** The whole of a small file. Throws FileError where it is too large. */
export async function readBytes(files: FileSet, name: string): Promise<Uint8Array> {
  const source = await files.open(name)
  try {
    if (source.size > MAX_BYTES)
      throw new FileError(`Cannot read "${name}": ${source.size} bytes, the limit for text is ${MAX_BYTES}`, {
        file: name,
        expected: MAX_BYTES,
        actual: source.size,
      })
    return await source.read(0, source.size)
  } finally {
    await source.close()
  }
}

/** The whole of a small text file. Throws FileError where it is too large or no UTF-8. */
export async function readText(files: FileSet, name: string): Promise<string> {
  const bytes = await readBytes(files, name)
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (cause) {
    throw new FileError(`Cannot read "${name}": it is not UTF-8 text`, { file: name, cause })
  }
}
