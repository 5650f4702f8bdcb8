// The tokenizer that comes with a model: in the files of a folder, or in the key-values of a GGUF file.
import { ggufIn } from '../checkpoint/gguf/open.ts'
import { openCheckpoint } from '../checkpoint/open.ts'
import { readBytes } from '../checkpoint/text-file.ts'
import type { FileSet } from '../checkpoint/types.ts'
import type { Tokenizer } from '../text/types.ts'

/** The tokenizer of a model's files. Throws FileError where there is none. */
export async function tokenizerOf(files: FileSet): Promise<Tokenizer> {
  const names = await files.list()
  const gguf = ggufFile(files, names)
  if (gguf !== undefined) return ggufTokenizer(files, gguf)
  const { tokenizerFromFolder } = await import('../text/files.ts')
  return tokenizerFromFolder(async (name) => (names.includes(name) ? readBytes(files, name) : undefined), files.name)
}

/** The GGUF file whose key-values hold the tokenizer; a folder's own tokenizer files come first. */
function ggufFile(files: FileSet, names: readonly string[]): string | undefined {
  if (files.single?.endsWith('.gguf')) return files.single
  const stored = ['tokenizer.json', 'tokenizer.model'].some((name) => names.includes(name))
  return stored ? undefined : ggufIn(files.name, names)
}

async function ggufTokenizer(files: FileSet, name: string): Promise<Tokenizer> {
  const { tokenizerFromGguf } = await import('../text/gguf-vocabulary.ts')
  const checkpoint = await openCheckpoint(files)
  try {
    return tokenizerFromGguf(checkpoint.metadata, name)
  } finally {
    await checkpoint.close()
  }
}
