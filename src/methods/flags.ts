// Options by name: the words of a command line (kebab-case) and of the library (camelCase) as keys of a quantization_config.
import { ConfigError } from '../core/errors.ts'
import { fromPlain, type Json, type Plain } from '../core/json.ts'

/** What is the same in every spelling: `group-size`, `groupSize` and `group_size`. */
export const squash = (name: string): string => name.replace(/[-_]/g, '').toLowerCase()

/** The key of `options` that `flag` spells. Throws ConfigError listing them; `method` is the name for people. */
export function keyOfFlag(flag: string, method: string, options: readonly string[]): string {
  const key = options.find((option) => squash(option) === squash(flag))
  if (key) return key
  throw new ConfigError(`"${flag}" is no option of ${method}: there are ${options.join(', ')}`, { key: flag })
}

/** `a,b` as a list of names; nothing is none. */
export const listOfText = (text: string): string[] => (text === '' ? [] : text.split(','))

/** The value that a command-line word stands for; a word that stands for none stays a string and is refused by its key. */
export function valueOfText(text: string): Json {
  try {
    return fromPlain(JSON.parse(text) as Plain)
  } catch {
    return text
  }
}
