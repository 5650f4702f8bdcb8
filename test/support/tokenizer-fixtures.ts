// The tokenizers that the reference built, with what it encodes and decodes.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { tokenizerFromJson } from '../../src/text/tokenizer.ts'
import type { Tokenizer } from '../../src/text/types.ts'

const ROOT = resolve(import.meta.dirname, '../fixtures/transformers/tokenizers')

export interface TokenizerFixture {
  readonly cases: readonly {
    readonly text: string
    readonly ids: number[]
    readonly ids_without_specials: number[]
    readonly decoded: string
    readonly decoded_skip_special: string
  }[]
  readonly decode_cases: readonly {
    readonly ids: number[]
    readonly text: string
    readonly text_skip_special: string
  }[]
  readonly chat?: readonly {
    readonly messages: readonly { role: string; content: string }[]
    readonly add_generation_prompt: boolean
    readonly text: string
    readonly ids: number[]
  }[]
}

export const TOKENIZER_KINDS: readonly string[] = readdirSync(ROOT).sort()

export function readTokenizer(kind: string): Tokenizer {
  const read = (name: string) => readFileSync(`${ROOT}/${kind}/${name}`, 'utf8')
  const template = existsSync(`${ROOT}/${kind}/chat_template.jinja`) ? read('chat_template.jinja') : undefined
  return tokenizerFromJson(read('tokenizer.json'), read('tokenizer_config.json'), template)
}

export function readExpected(kind: string): TokenizerFixture {
  return JSON.parse(readFileSync(`${ROOT}/${kind}/expected.json`, 'utf8'))
}
