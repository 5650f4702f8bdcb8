// The tokenizer that comes with a model.
import { readText } from '../checkpoint/open.ts'
import type { FileSet } from '../checkpoint/types.ts'
import { FileError } from '../core/errors.ts'
import type { Tokenizer } from '../text/types.ts'
import { filesAt, type ModelLocation } from './location.ts'

/** The tokenizer of a model's files. Throws FileError where there is none. */
export async function tokenizerOf(files: FileSet): Promise<Tokenizer> {
  const read = async (name: string) => ((await files.has(name)) ? readText(files, name) : undefined)
  const json = await read('tokenizer.json')
  if (json === undefined)
    throw new FileError(`Cannot encode text for "${files.name}": it holds no tokenizer.json`, {
      file: files.name,
      hint: 'copy tokenizer.json and tokenizer_config.json of the original model into the folder',
    })
  const { tokenizerFromJson } = await import('../text/tokenizer.ts')
  return tokenizerFromJson(json, await read('tokenizer_config.json'), await read('chat_template.jinja'))
}

/** As transformers' AutoTokenizer. */
export const AutoTokenizer = {
  async fromPretrained(location: ModelLocation): Promise<Tokenizer> {
    return tokenizerOf(await filesAt(location))
  },
}
