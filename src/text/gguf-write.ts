// The tokenizer of a model folder as GGUF key-values, in the reference converter's order and spelling.
import { FileError } from '../core/errors.ts'
import type { Plain, PlainObject } from '../core/json.ts'
import { IDENTIFYING_TEXT } from './pre-tokenizer-hashes.ts'
import { preTokenizerName } from './pre-tokenizers.ts'
import { readSentencePiece } from './sentencepiece.ts'
import { buildTokenizer } from './tokenizer.ts'
import type { StepJson, TokenizerJson } from './types.ts'
import { TokenType } from './vocabulary.ts'

/** Values as the GGUF writer takes them. */
export type GgufTokenizerValue =
  | { readonly type: 'string'; readonly value: string }
  | { readonly type: 'u32'; readonly value: number }
  | { readonly type: 'bool'; readonly value: boolean }
  | { readonly type: 'array'; readonly element: 'string'; readonly value: readonly string[] }
  | { readonly type: 'array'; readonly element: 'i32'; readonly value: Int32Array }
  | { readonly type: 'array'; readonly element: 'f32'; readonly value: Float32Array }

/** The files of a folder that matter, parsed. */
export interface GgufTokenizerSource {
  /** `general.architecture`. */
  readonly architecture: string
  /** config.json. */
  readonly config: PlainObject
  readonly tokenizerConfig?: PlainObject
  readonly tokenizerJson?: TokenizerJson
  /** Bytes of tokenizer.model. */
  readonly tokenizerModel?: Uint8Array
  /** added_tokens.json: token -> id. */
  readonly addedTokens?: PlainObject
  /** chat_template.jinja. */
  readonly chatTemplate?: string
  readonly namedTemplates?: ReadonlyMap<string, string>
  /** Overrides the look-up of `tokenizer.ggml.pre`. */
  readonly pre?: string
}

interface Result {
  readonly metadata: Map<string, GgufTokenizerValue>
  readonly warnings: string[]
}

interface Writable {
  readonly tokens: string[]
  readonly types: Int32Array
  readonly scores: Float32Array
}

/** Score of tokens that no training gave one. */
const ADDED_SCORE = -1000
const PADDING_SCORE = -10000
const SPACE_MARK = '\u2581'

function isObject(value: Plain | undefined): value is PlainObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** The converter takes tokens of these forms for control tokens, whatever their flag says. */
function looksSpecial(token: string): boolean {
  return (
    ['<pad>', '<mask>', '<2mass>', '[@BOS@]'].includes(token) ||
    (token.startsWith('<|') && token.endsWith('|>')) ||
    (token.startsWith('<\uff5c') && token.endsWith('\uff5c>')) ||
    (token.startsWith('<unused') && token.endsWith('>'))
  )
}

const text = (value: string): GgufTokenizerValue => ({ type: 'string', value })

/** Byte-level BPE: tokens by id, holes as `[PADn]`. */
function bpeTokens(json: TokenizerJson, size: number, plainText: (token: string) => string): Writable {
  const tokens = Array.from({ length: size }, (_, i) => `[PAD${i}]`)
  const types = new Int32Array(size).fill(TokenType.unused)
  const set = (token: string, id: number, type: number) => {
    if (id >= size)
      throw new FileError(
        `Cannot write the tokenizer: token ${JSON.stringify(token)} has the id ${id}, config.json's vocab_size is ${size}`,
        {
          token,
          id,
          vocabSize: size,
        },
      )
    tokens[id] = token
    types[id] = type
  }
  for (const [token, id] of Object.entries(json.model.vocab as Record<string, number>)) set(token, id, TokenType.normal)
  for (const { content, id, special, normalized } of json.added_tokens) {
    // llama.cpp takes these as already normalised.
    const token = (normalized ?? !special) ? content : plainText(content)
    if (special || looksSpecial(content)) set(token, id, TokenType.control)
    else set(token.replaceAll(SPACE_MARK, ' '), id, TokenType.userDefined)
  }
  return { tokens, types, scores: new Float32Array(0) }
}

/** SentencePiece pieces, then added tokens from each file that names some. */
function pieceTokens(source: GgufTokenizerSource, size: number | undefined, warnings: string[]): Writable {
  const model = readSentencePiece(source.tokenizerModel!)
  const count = size ?? model.tokens.length
  const tokens = Array.from({ length: count }, (_, i) => model.tokens[i] ?? `[PAD${i}]`)
  const types = Int32Array.from(tokens, (_, i) => model.types[i] ?? TokenType.unused)
  // User-defined pieces are plain ones to the converter: the library it uses cannot tell them.
  types.forEach((type, i) => {
    if (type === TokenType.userDefined) types[i] = TokenType.normal
  })
  const scores = Float32Array.from(tokens, (_, i) => model.scores[i] ?? PADDING_SCORE)
  const set = (token: string, id: number, type: number) => {
    if (!(id < count)) {
      warnings.push(
        `Token ${JSON.stringify(token)} has the id ${id}, beyond the vocabulary of ${count}: it is left out`,
      )
      return
    }
    tokens[id] = token
    types[id] = type
    scores[id] = ADDED_SCORE
  }
  for (const [token, id] of Object.entries(source.addedTokens ?? {})) set(token, Number(id), TokenType.userDefined)
  const decoder = source.tokenizerConfig?.added_tokens_decoder
  for (const [id, entry] of Object.entries(isObject(decoder) ? decoder : {})) {
    if (!isObject(entry) || typeof entry.content !== 'string') continue
    const { content } = entry
    if (entry.special === true || looksSpecial(content)) set(content, Number(id), TokenType.control)
    else set(content.replaceAll(SPACE_MARK, ' '), Number(id), TokenType.userDefined)
  }
  if (source.architecture === 'phi3') {
    for (const { content, id, special } of source.tokenizerJson?.added_tokens ?? [])
      set(content, id, special ? TokenType.control : TokenType.userDefined)
  }
  return { tokens, types, scores }
}

/** Byte-fallback BPE without a tokenizer.model: each token scores by its first merge, so that llama.cpp merges in the same order. */
function mergedPieces(json: TokenizerJson, size: number): Writable {
  const base = bpeTokens(json, size, (token) => token)
  const rank = new Map<string, number>()
  json.model.merges?.forEach((merge, i) => {
    const whole = typeof merge === 'string' ? merge.replace(' ', '') : merge.join('')
    if (!rank.has(whole)) rank.set(whole, i)
  })
  const scores = Float32Array.from(base.tokens, (token, id) => {
    if (base.types[id] === TokenType.control || base.types[id] === TokenType.userDefined) return ADDED_SCORE
    if (base.types[id] === TokenType.unused) return PADDING_SCORE
    return -(rank.get(token) ?? rank.size)
  })
  base.tokens.forEach((token, id) => {
    if (base.types[id] === TokenType.normal && /^<0x[0-9A-F]{2}>$/.test(token)) base.types[id] = TokenType.byte
  })
  return { ...base, scores }
}

/** Ids by role and flags, as the converter collects them. */
class SpecialVocabulary {
  readonly ids = new Map<string, number>()
  readonly adds = new Map<string, boolean>()
  private readonly source: GgufTokenizerSource
  private readonly size: number
  private readonly config: PlainObject

  constructor(source: GgufTokenizerSource, size: number) {
    this.source = source
    this.size = size
    this.config = { ...source.tokenizerConfig }
    if (source.tokenizerJson) this.readPostProcessor(source.tokenizerJson)
    if (source.tokenizerConfig) this.readConfig(source.tokenizerJson)
    for (const role of this.roles) this.set(role, source.config[`${role}_token_id`])
  }

  /** An end token of the template that is not eos makes the old eos the end of a turn. */
  private roles = ['bos', 'eos', 'unk', 'sep', 'pad', 'cls', 'mask']

  private set(role: string, id: unknown): void {
    if (Number.isSafeInteger(id) && (id as number) >= 0 && (id as number) < this.size && !this.ids.has(role))
      this.ids.set(role, id as number)
  }

  private content(role: string): string | undefined {
    const entry = this.config[`${role}_token`]
    const content = isObject(entry) ? entry.content : entry
    return typeof content === 'string' ? content : undefined
  }

  private readPostProcessor(json: TokenizerJson): void {
    const step = json.post_processor
    const steps = step?.type === 'Sequence' ? (step.processors as StepJson[]) : step ? [step] : []
    for (const one of steps) {
      if (one.type === 'RobertaProcessing') for (const role of ['bos', 'eos', 'sep']) this.adds.set(role, true)
      if (one.type === 'TemplateProcessing') this.readTemplate(one)
    }
  }

  private readTemplate(step: StepJson): void {
    const single = step.single as { SpecialToken?: { id: string } }[]
    if (!Array.isArray(single) || single.length < 2) return
    const first = single[0].SpecialToken?.id
    const last = single[single.length - 1].SpecialToken?.id
    if (first) this.adds.set('bos', first === this.content('bos') || first === this.content('cls'))
    if (!last) return
    const eos = this.content('eos')
    if (this.source.tokenizerConfig && last !== eos) {
      this.roles = [...this.roles, 'eot']
      if (eos !== undefined) this.config.eot_token = eos
      this.config.eos_token = last
    }
    this.adds.set('eos', true)
  }

  private readConfig(json: TokenizerJson | undefined): void {
    for (const role of this.roles) {
      const adds = this.config[`add_${role}_token`]
      if (typeof adds === 'boolean') this.adds.set(role, adds)
      const content = this.content(role)
      if (content !== undefined) this.set(role, json?.added_tokens.find((token) => token.content === content)?.id)
    }
  }

  /** tokenizer_config.json's template wins in the converter, a list gives named ones. */
  private templates(): Map<string, string> {
    const out = new Map<string, string>()
    const stored = this.config.chat_template
    if (typeof stored === 'string') out.set('default', stored)
    else if (Array.isArray(stored)) {
      for (const entry of stored)
        if (isObject(entry) && typeof entry.name === 'string' && typeof entry.template === 'string')
          out.set(entry.name, entry.template)
    } else if (this.source.chatTemplate !== undefined) {
      out.set('default', this.source.chatTemplate)
      for (const [name, template] of this.source.namedTemplates ?? []) out.set(name, template)
    }
    return out
  }

  write(out: Map<string, GgufTokenizerValue>): void {
    for (const [role, id] of this.ids) out.set(`tokenizer.ggml.${ID_KEYS[role]}`, { type: 'u32', value: id })
    for (const [role, value] of this.adds)
      if (['bos', 'eos', 'sep'].includes(role)) out.set(`tokenizer.ggml.add_${role}_token`, { type: 'bool', value })
    if (this.source.tokenizerConfig) writeTemplates(out, this.templates())
  }
}

const ID_KEYS: Readonly<Record<string, string>> = {
  bos: 'bos_token_id',
  eos: 'eos_token_id',
  unk: 'unknown_token_id',
  sep: 'seperator_token_id',
  pad: 'padding_token_id',
  cls: 'cls_token_id',
  mask: 'mask_token_id',
  eot: 'eot_token_id',
}

/** Named templates first, then the list of their names, then the default one. */
function writeTemplates(out: Map<string, GgufTokenizerValue>, templates: ReadonlyMap<string, string>): void {
  const names: string[] = []
  for (const [name, template] of templates) {
    if (name === 'default') continue
    const key = name.replaceAll(/[^a-zA-Z0-9_]/g, '_').toLowerCase()
    out.set(`tokenizer.chat_template.${key}`, text(template))
    names.push(key)
  }
  if (names.length > 0) out.set('tokenizer.chat_templates', { type: 'array', element: 'string', value: names })
  const standard = templates.get('default')
  if (standard !== undefined) out.set('tokenizer.chat_template', text(standard))
}

/** A space inside a merge's part becomes U+0120. */
function mergeTexts(json: TokenizerJson): string[] {
  return (json.model.merges ?? []).map((merge) =>
    typeof merge === 'string' ? merge : merge.map((part) => part.replaceAll(' ', '\u0120')).join(' '),
  )
}

async function hashOf(ids: readonly number[]): Promise<string> {
  const digest = await globalThis.crypto.subtle.digest('SHA-256', new TextEncoder().encode(`[${ids.join(', ')}]`))
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('')
}

/** Architectures whose tokenizers put no space before a text. */
const WITHOUT_SPACE_PREFIX: readonly string[] = ['gemma', 'gemma2', 'gemma3']

/** `tokenizer.ggml.*` and the chat template of a folder. Throws FileError where it has no tokenizer. */
export async function ggufTokenizer(source: GgufTokenizerSource): Promise<Result> {
  const warnings: string[] = []
  const metadata = new Map<string, GgufTokenizerValue>()
  const stated = source.config.vocab_size
  const size = typeof stated === 'number' ? stated : undefined
  const json = source.tokenizerJson
  const count =
    source.tokenizerModel || (json && isByteFallback(json))
      ? writePieces(source, size, metadata, warnings)
      : await writeBytes(source, size, metadata, warnings)
  new SpecialVocabulary(source, count).write(metadata)
  const prefix = source.tokenizerConfig?.add_prefix_space
  if (WITHOUT_SPACE_PREFIX.includes(source.architecture)) addFlag(metadata, 'add_space_prefix', false)
  else if (source.architecture === 'llama' && typeof prefix === 'boolean') addFlag(metadata, 'add_space_prefix', prefix)
  // The converter's rule for one small family, recognised by its vocabulary.
  if (source.architecture === 'llama' && size === 49152) addFlag(metadata, 'add_bos_token', false)
  return { metadata, warnings }
}

function addFlag(out: Map<string, GgufTokenizerValue>, name: string, value: boolean): void {
  out.set(`tokenizer.ggml.${name}`, { type: 'bool', value })
}

function isByteFallback(json: TokenizerJson): boolean {
  return json.model.type === 'BPE' && json.model.byte_fallback === true && json.decoder?.type === 'Sequence'
}

/** SentencePiece keys. Gives the number of tokens. */
function writePieces(
  source: GgufTokenizerSource,
  size: number | undefined,
  out: Map<string, GgufTokenizerValue>,
  warnings: string[],
): number {
  const fromJson = () => {
    warnings.push('The folder has no tokenizer.model: scores are made from the merges of tokenizer.json')
    const json = source.tokenizerJson!
    return mergedPieces(json, size ?? buildTokenizer(json).vocabSize)
  }
  const { tokens, types, scores } = source.tokenizerModel ? pieceTokens(source, size, warnings) : fromJson()
  out.set('tokenizer.ggml.model', text('llama'))
  out.set('tokenizer.ggml.pre', text('default'))
  out.set('tokenizer.ggml.tokens', { type: 'array', element: 'string', value: tokens })
  out.set('tokenizer.ggml.scores', { type: 'array', element: 'f32', value: scores })
  out.set('tokenizer.ggml.token_type', { type: 'array', element: 'i32', value: types })
  return tokens.length
}

/** Byte-level BPE keys. Gives the number of tokens. */
async function writeBytes(
  source: GgufTokenizerSource,
  size: number | undefined,
  out: Map<string, GgufTokenizerValue>,
  warnings: string[],
): Promise<number> {
  const json = source.tokenizerJson
  if (!json)
    throw new FileError('Cannot write a GGUF file: the folder has no tokenizer (tokenizer.json or tokenizer.model)', {
      hint: 'copy the tokenizer of the original model into the folder',
    })
  if (json.model.type !== 'BPE' || json.decoder?.type !== 'ByteLevel')
    throw new FileError(
      `Cannot write a GGUF file: the tokenizer is ${json.model.type} with the decoder ${json.decoder?.type}, fewbit writes byte-level BPE and SentencePiece`,
      { model: json.model.type, decoder: json.decoder?.type },
    )
  const tokenizer = buildTokenizer(json)
  const plainText = (token: string) => tokenizer.decode(tokenizer.encode(token, { addSpecialTokens: false }))
  const { tokens, types } = bpeTokens(json, size ?? tokenizer.vocabSize, plainText)
  const found = source.pre
    ? { name: source.pre }
    : preTokenizerName(await hashOf(tokenizer.encode(IDENTIFYING_TEXT)), json.pre_tokenizer)
  if ('warning' in found && found.warning) warnings.push(found.warning)
  out.set('tokenizer.ggml.model', text('gpt2'))
  out.set('tokenizer.ggml.pre', text(found.name))
  out.set('tokenizer.ggml.tokens', { type: 'array', element: 'string', value: tokens })
  out.set('tokenizer.ggml.token_type', { type: 'array', element: 'i32', value: types })
  out.set('tokenizer.ggml.merges', { type: 'array', element: 'string', value: mergeTexts(json) })
  return tokens.length
}
