// Reads tokenizer_config.json: special token strings and chat templates, in every spelling.
import { FileError } from '../core/errors.ts'
import type { Plain, PlainObject } from '../core/json.ts'
import type { SpecialIds } from './types.ts'

const ROLES = ['bos', 'eos', 'pad', 'unk', 'sep', 'cls', 'mask'] as const

function isObject(value: Plain | undefined): value is PlainObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** A token is a string, or an object with its `content`. */
function contentOf(value: Plain | undefined): string | undefined {
  const content = isObject(value) ? value.content : value
  return typeof content === 'string' ? content : undefined
}

/** `bos_token`, `eos_token` ... as variables for templates; `config` wins over special_tokens_map.json. */
export function specialTokens(config: PlainObject, map: PlainObject): Record<string, string> {
  const out: Record<string, string> = {}
  for (const role of ROLES) {
    const key = `${role}_token`
    const content = contentOf(config[key]) ?? contentOf(map[key])
    if (content !== undefined) out[key] = content
  }
  return out
}

export function specialIds(
  tokens: Readonly<Record<string, string>>,
  idOf: (token: string) => number | undefined,
): SpecialIds {
  const id = (role: string) => (role in tokens ? idOf(tokens[role]) : undefined)
  return { bos: id('bos_token'), eos: id('eos_token'), pad: id('pad_token'), unk: id('unk_token') }
}

/** Templates by name: a file wins over tokenizer_config.json's string or list of { name, template }. */
export function chatTemplates(
  config: PlainObject,
  file: string | undefined,
  additional: ReadonlyMap<string, string> = new Map(),
): Map<string, string> {
  const out = new Map<string, string>()
  const stored = config.chat_template
  if (typeof stored === 'string') out.set('default', stored)
  else if (Array.isArray(stored)) for (const entry of stored) addNamed(out, entry)
  else if (isObject(stored)) for (const [name, text] of Object.entries(stored)) addNamed(out, { name, template: text })
  for (const [name, text] of additional) out.set(name, text)
  if (file !== undefined) out.set('default', file)
  return out
}

function addNamed(out: Map<string, string>, entry: Plain): void {
  const { name, template } = isObject(entry) ? entry : {}
  if (typeof name !== 'string' || typeof template !== 'string')
    throw new FileError(
      'Cannot read "tokenizer_config.json": an entry of "chat_template" is not { "name": text, "template": text }',
      { file: 'tokenizer_config.json', key: 'chat_template' },
    )
  out.set(name, template)
}
