// A model's tokenizer: built from a tokenizer.json object, whichever file that came from, plus tokenizer_config.json and chat template.
import { FewbitError, FileError } from '../core/errors.ts'
import { type PlainObject, parseJsonObject, toPlain } from '../core/json.ts'
import { renderChatTemplate } from './chat-template.ts'
import { decodeStream } from './decode-stream.ts'
import { HubTokenizer } from './hub-tokenizer.ts'
import { chatTemplates, specialIds, specialTokens } from './special-tokens.ts'
import { tokenBytes } from './token-bytes.ts'
import { parseTokenizerJson } from './tokenizer-json.ts'
import type { Tokenizer, TokenizerJson } from './types.ts'

/** What belongs to a tokenizer besides its tokenizer.json. */
export interface TokenizerSide {
  /** Where it came from, for messages. */
  readonly file?: string
  /** tokenizer_config.json as a plain object. */
  readonly config?: PlainObject
  readonly specialTokensMap?: PlainObject
  /** chat_template.jinja. */
  readonly chatTemplate?: string
  /** additional_chat_templates/NAME.jinja by name. */
  readonly namedTemplates?: ReadonlyMap<string, string>
}

/** Builds a tokenizer from a checked tokenizer.json object. Throws FileError. */
export function buildTokenizer(json: TokenizerJson, side: TokenizerSide = {}): Tokenizer {
  const { file = 'tokenizer.json', config = {} } = side
  const hub = construct(json, file)
  const tokens = specialTokens(config, side.specialTokensMap ?? {})
  const templates = chatTemplates(config, side.chatTemplate, side.namedTemplates)
  const bytes = tokenBytes(json.decoder)
  const plainBytes = (token: string) => new TextEncoder().encode(token)
  const tokenizer: Tokenizer = {
    encode: (text, options = {}) =>
      hub.encode(text, options.addSpecialTokens ?? true, options.splitSpecialTokens ?? false),
    decode: (ids, options = {}) => hub.decode(ids, options.skipSpecialTokens ?? false),
    decodeStream: (options = {}) => decodeStream(hub, bytes, options.skipSpecialTokens ?? false),
    renderChat: (messages, options = {}) => renderChatTemplate(templates, tokens, messages, options),
    applyChatTemplate: (messages, options = {}) => hub.encode(tokenizer.renderChat(messages, options), false),
    idOf: (token) => hub.idOf(token),
    tokenOf: (id) => hub.tokenOf(id),
    bytesOf: (id) => {
      const token = hub.pieceOf(id)
      return token === undefined ? undefined : (bytes?.of ?? plainBytes)(token, hub.isAdded(id))
    },
    isSpecial: (id) => hub.isSpecial(id),
    specialIds: specialIds(tokens, (token) => hub.idOf(token)),
    vocabSize: hub.vocabSize,
    chatTemplate: templates.get('default'),
    json,
  }
  return tokenizer
}

function construct(json: TokenizerJson, file: string): HubTokenizer {
  try {
    return new HubTokenizer(json)
  } catch (cause) {
    if (cause instanceof FewbitError) throw cause
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new FileError(`Cannot build the tokenizer of "${file}": ${reason}`, { file, cause })
  }
}

/** A tokenizer from the texts of tokenizer.json and tokenizer_config.json. */
export function tokenizerFromJson(tokenizerJson: string, configJson = '{}', chatTemplate?: string): Tokenizer {
  const config = toPlain(parseJsonObject(configJson, 'tokenizer_config.json')) as PlainObject
  return buildTokenizer(parseTokenizerJson(tokenizerJson), { config, chatTemplate })
}
