// Small text files of a model: config.json, an index, a tokenizer.
import { FileError } from '../core/errors.ts'
import type { FileSet } from './types.ts'

/** Larger than any real config, index or tokenizer that is text. */
const MAX_TEXT_BYTES = 64 * 1024 * 1024

/** The whole of a small text file. Throws FileError where it is too large or no UTF-8. */
export async function readText(files: FileSet, name: string): Promise<string> {
  const source = await files.open(name)
  try {
    if (source.size > MAX_TEXT_BYTES)
      throw new FileError(`Cannot read "${name}": ${source.size} bytes, the limit for text is ${MAX_TEXT_BYTES}`, {
        file: name,
        expected: MAX_TEXT_BYTES,
        actual: source.size,
      })
    const bytes = await source.read(0, source.size)
    try {
      return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
    } catch (cause) {
      throw new FileError(`Cannot read "${name}": it is not UTF-8 text`, { file: name, cause })
    }
  } finally {
    await source.close()
  }
}
