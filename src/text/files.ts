// The tokenizer of a model folder, from whichever files it has: tokenizer.json, or tokenizer.model for SentencePiece vocabularies.
import { FileError } from '../core/errors.ts'
import { type PlainObject, parseJsonObject, toPlain } from '../core/json.ts'
import type { GgufTokenizerSource } from './gguf-write.ts'
import { readSentencePiece, requireBpe } from './sentencepiece.ts'
import { buildTokenizer } from './tokenizer.ts'
import { checkTokenizerJson, parseTokenizerJson } from './tokenizer-json.ts'
import type { Tokenizer, TokenizerJson } from './types.ts'
import { sentencePieceJson, TokenType } from './vocabulary.ts'

/** Gives the bytes of a file, or undefined where there is none. */
export type FileReader = (name: string) => Promise<Uint8Array | undefined>

/** Everything in a folder that says something of its tokenizer. */
interface TokenizerFiles {
  readonly tokenizerJson?: TokenizerJson
  readonly tokenizerModel?: Uint8Array
  readonly tokenizerConfig?: PlainObject
  readonly specialTokensMap?: PlainObject
  readonly addedTokens?: PlainObject
  readonly chatTemplate?: string
}

async function readFiles(read: FileReader): Promise<TokenizerFiles> {
  const text = async (name: string) => {
    const bytes = await read(name)
    if (!bytes) return undefined
    try {
      return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
    } catch (cause) {
      throw new FileError(`Cannot read "${name}": it is not UTF-8 text`, { file: name, cause })
    }
  }
  const object = async (name: string) => {
    const content = await text(name)
    return content === undefined ? undefined : (toPlain(parseJsonObject(content, name)) as PlainObject)
  }
  const json = await text('tokenizer.json')
  const older = (await object('chat_template.json'))?.chat_template
  return {
    tokenizerJson: json === undefined ? undefined : parseTokenizerJson(json),
    tokenizerModel: await read('tokenizer.model'),
    tokenizerConfig: await object('tokenizer_config.json'),
    specialTokensMap: await object('special_tokens_map.json'),
    addedTokens: await object('added_tokens.json'),
    chatTemplate: (await text('chat_template.jinja')) ?? (typeof older === 'string' ? older : undefined),
  }
}

/** tokenizer.model with the added tokens of its side files, as transformers' Llama tokenizer reads it. */
function fromSentencePiece(bytes: Uint8Array, files: TokenizerFiles): TokenizerJson {
  const model = readSentencePiece(bytes)
  requireBpe(model)
  const tokens = [...model.tokens]
  const types = [...model.types]
  const scores = [...model.scores]
  const set = (content: string, id: number, special: boolean) => {
    if (!Number.isSafeInteger(id) || id < 0 || id > tokens.length)
      throw new FileError(
        `Cannot read the tokenizer: added token ${JSON.stringify(content)} has the id ${id}, expected at most ${tokens.length}`,
        {
          token: content,
          id,
        },
      )
    tokens[id] = content
    types[id] =
      types[id] === TokenType.unknown ? TokenType.unknown : special ? TokenType.control : TokenType.userDefined
    scores[id] ??= 0
  }
  const added = Object.entries(files.addedTokens ?? {}).map(([content, id]) => [content, Number(id)] as const)
  for (const [content, id] of added.sort((a, b) => a[1] - b[1])) set(content, id, false)
  const config = files.tokenizerConfig ?? {}
  const decoder = config.added_tokens_decoder
  const entries =
    typeof decoder === 'object' && decoder !== null && !Array.isArray(decoder) ? Object.entries(decoder) : []
  for (const [id, entry] of entries) {
    const { content, special } = entry as PlainObject
    if (typeof content === 'string') set(content, Number(id), special === true)
  }
  const around = {
    bos: config.add_bos_token === false ? undefined : tokens[model.bosId],
    eos: config.add_eos_token === true ? tokens[model.eosId] : undefined,
  }
  const json = sentencePieceJson({ tokens, types }, scores, model.addDummyPrefix, around)
  return checkTokenizerJson(json, 'tokenizer.model')
}

/** The tokenizer of a folder called `name`. Throws FileError where it has none, or a damaged one. */
export async function tokenizerFromFolder(read: FileReader, name: string): Promise<Tokenizer> {
  const files = await readFiles(read)
  const { tokenizerJson, tokenizerModel, tokenizerConfig, specialTokensMap, chatTemplate } = files
  const side = { config: tokenizerConfig, specialTokensMap, chatTemplate }
  if (tokenizerJson) return buildTokenizer(tokenizerJson, side)
  if (tokenizerModel)
    return buildTokenizer(fromSentencePiece(tokenizerModel, files), { ...side, file: 'tokenizer.model' })
  throw new FileError(`Cannot encode text for "${name}": it holds neither tokenizer.json nor tokenizer.model`, {
    file: name,
    hint: 'copy tokenizer.json and tokenizer_config.json of the original model into the folder',
  })
}

/** What the GGUF writer needs of a folder; undefined where it has no tokenizer. */
export async function ggufSourceFromFolder(
  read: FileReader,
  architecture: string,
  config: PlainObject,
  pre?: string,
): Promise<GgufTokenizerSource | undefined> {
  const { tokenizerJson, tokenizerModel, tokenizerConfig, addedTokens, chatTemplate } = await readFiles(read)
  if (!tokenizerJson && !tokenizerModel) return undefined
  return { architecture, config, tokenizerConfig, tokenizerJson, tokenizerModel, addedTokens, chatTemplate, pre }
}
