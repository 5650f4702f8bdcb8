// The tokenizer inside a GGUF file: its key-values -> a tokenizer.json object for the same library.
import { FileError, UnsupportedError } from '../core/errors.ts'
import type { PlainObject } from '../core/json.ts'
import { preTokenizerNamed } from './pre-tokenizers.ts'
import { buildTokenizer } from './tokenizer.ts'
import { checkTokenizerJson, MAX_VOCABULARY } from './tokenizer-json.ts'
import type { Tokenizer, TokenizerJson } from './types.ts'
import { byteLevelJson, sentencePieceJson, TokenType, type Vocabulary } from './vocabulary.ts'

/** A key-value as the GGUF reader gives it. */
interface Entry {
  readonly type: string
  readonly value: unknown
}

const ROLES = {
  bos: 'bos_token_id',
  eos: 'eos_token_id',
  unk: 'unknown_token_id',
  sep: 'seperator_token_id',
  pad: 'padding_token_id',
} as const

/** Tokens that end a turn in published models; llama.cpp finds them by their text too. */
const END_TEXTS: readonly string[] = [
  '<|eot_id|>',
  '<|im_end|>',
  '<|end|>',
  '<end_of_turn>',
  '<|endoftext|>',
  '<|eom_id|>',
]

/** Typed look-ups in the key-values. */
class Keys {
  private readonly metadata: ReadonlyMap<string, unknown>
  private readonly file: string
  constructor(metadata: ReadonlyMap<string, unknown>, file: string) {
    this.metadata = metadata
    this.file = file
  }

  private raw(key: string): unknown {
    return (this.metadata.get(key) as Entry | undefined)?.value
  }

  text(key: string): string | undefined {
    const value = this.raw(key)
    return value === undefined || typeof value === 'string' ? value : this.wrong(key, 'a string')
  }

  flag(key: string): boolean | undefined {
    const value = this.raw(key)
    return value === undefined || typeof value === 'boolean' ? value : this.wrong(key, 'true or false')
  }

  id(key: string, count: number): number | undefined {
    const value = this.raw(key)
    if (value === undefined) return undefined
    const id = Number(value)
    // Files in the wild use all ones for "none".
    if (id === 0xffffffff || id === -1) return undefined
    return Number.isInteger(id) && id >= 0 && id < count ? id : this.wrong(key, `an id below ${count}`)
  }

  texts(key: string): readonly string[] | undefined {
    const value = this.raw(key)
    if (value === undefined) return undefined
    const legal = Array.isArray(value) && value.length <= MAX_VOCABULARY && value.every((v) => typeof v === 'string')
    return legal ? (value as string[]) : this.wrong(key, `a list of at most ${MAX_VOCABULARY} strings`)
  }

  numbers(key: string, count: number): ArrayLike<number> | undefined {
    const value = this.raw(key)
    if (value === undefined) return undefined
    const legal = ArrayBuffer.isView(value) && (value as Int32Array).length === count
    return legal ? (value as Int32Array) : this.wrong(key, `a list of ${count} numbers, one a token`)
  }

  entries(prefix: string): [string, string][] {
    const out: [string, string][] = []
    for (const key of this.metadata.keys()) {
      if (key.startsWith(prefix) && typeof this.raw(key) === 'string')
        out.push([key.slice(prefix.length), this.raw(key) as string])
    }
    return out
  }

  wrong(key: string, expected: string): never {
    throw new FileError(`Cannot read the tokenizer of "${this.file}": "${key}" is not ${expected}`, {
      file: this.file,
      key,
      expected,
    })
  }
}

function readVocabulary(keys: Keys): Vocabulary {
  const tokens = keys.texts('tokenizer.ggml.tokens')
  if (!tokens || tokens.length === 0) return keys.wrong('tokenizer.ggml.tokens', 'there')
  const types = keys.numbers('tokenizer.ggml.token_type', tokens.length)
  return { tokens, types: types ?? new Int32Array(tokens.length).fill(TokenType.normal) }
}

interface Around {
  readonly bos?: string
  readonly eos?: string
}

/** The bos and eos that are added around a text: by the file's flags, else by the kind's habit. */
function around(keys: Keys, tokens: readonly string[], addsBos: boolean): Around {
  const role = (name: 'bos' | 'eos', habit: boolean) => {
    if (!(keys.flag(`tokenizer.ggml.add_${name}_token`) ?? habit)) return undefined
    const id = keys.id(`tokenizer.ggml.${ROLES[name]}`, tokens.length)
    return id === undefined ? undefined : tokens[id]
  }
  return { bos: role('bos', addsBos), eos: role('eos', false) }
}

function jsonOf(keys: Keys, vocabulary: Vocabulary): TokenizerJson {
  const { tokens } = vocabulary
  const model = keys.text('tokenizer.ggml.model')
  switch (model) {
    case 'gpt2': {
      const merges = keys.texts('tokenizer.ggml.merges') ?? keys.wrong('tokenizer.ggml.merges', 'there')
      const rule = preTokenizerNamed(keys.text('tokenizer.ggml.pre') ?? 'default')
      return byteLevelJson(vocabulary, merges, rule, around(keys, tokens, rule.addsBos))
    }
    case 'llama': {
      const scores =
        keys.numbers('tokenizer.ggml.scores', tokens.length) ?? keys.wrong('tokenizer.ggml.scores', 'there')
      const prefix = keys.flag('tokenizer.ggml.add_space_prefix') ?? true
      return sentencePieceJson(vocabulary, scores, prefix, around(keys, tokens, true))
    }
    default:
      throw new UnsupportedError(
        `Cannot read the tokenizer: its model is "${model}", fewbit reads "gpt2" (byte-level BPE) and "llama" (SentencePiece)`,
        { model, known: ['gpt2', 'llama'] },
      )
  }
}

/** A tokenizer as the files of a folder hold it. */
export interface TokenizerParts {
  readonly json: TokenizerJson
  /** tokenizer_config.json: the special tokens by role. */
  readonly config: PlainObject
  readonly chatTemplate: string | undefined
  readonly namedTemplates: ReadonlyMap<string, string>
}

/** What a GGUF file's key-values say of the tokenizer. Throws FileError or UnsupportedError. */
export function tokenizerPartsFromGguf(metadata: ReadonlyMap<string, unknown>, file: string): TokenizerParts {
  const keys = new Keys(metadata, file)
  const vocabulary = readVocabulary(keys)
  const config: PlainObject = {}
  for (const [role, key] of Object.entries(ROLES)) {
    const id = keys.id(`tokenizer.ggml.${key}`, vocabulary.tokens.length)
    if (id !== undefined) config[`${role}_token`] = vocabulary.tokens[id]
  }
  return {
    json: checkTokenizerJson(jsonOf(keys, vocabulary), file),
    config,
    chatTemplate: keys.text('tokenizer.chat_template'),
    namedTemplates: new Map(keys.entries('tokenizer.chat_template.')),
  }
}

/** The tokenizer that a GGUF file's key-values describe. Throws FileError or UnsupportedError. */
export function tokenizerFromGguf(metadata: ReadonlyMap<string, unknown>, file: string): Tokenizer {
  const { json, ...parts } = tokenizerPartsFromGguf(metadata, file)
  return buildTokenizer(json, { file, ...parts })
}

/** Every id that ends a text or a turn: those the file names, and control tokens known by their text. */
export function ggufEndIds(metadata: ReadonlyMap<string, unknown>, file: string): number[] {
  const keys = new Keys(metadata, file)
  const { tokens, types } = readVocabulary(keys)
  const named = ['eos_token_id', 'eot_token_id', 'eom_token_id'].map((key) =>
    keys.id(`tokenizer.ggml.${key}`, tokens.length),
  )
  const byText = END_TEXTS.map((text) => tokens.indexOf(text)).filter((id) => types[id] === TokenType.control)
  return [...new Set([...named, ...byText])].filter((id) => id !== undefined)
}
