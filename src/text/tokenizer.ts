// Tokenizer of a model folder: @huggingface/tokenizers with the corrections it needs, plus the chat template.
import { Tokenizer as HubTokenizer } from '@huggingface/tokenizers'
import { type PlainObject, parseJsonObject, toPlain } from '../core/json.ts'

export interface EncodeOptions {
  /** Adds bos, eos or whatever the post-processor adds. Default true. */
  readonly addSpecialTokens?: boolean
}

export interface Tokenizer {
  encode(text: string, options?: EncodeOptions): number[]
  decode(ids: readonly number[], options?: { skipSpecialTokens?: boolean }): string
  /** Id of a token's exact string. */
  idOf(token: string): number | undefined
}

/** A tokenizer from the texts of tokenizer.json and tokenizer_config.json. */
export function tokenizerFromJson(tokenizerJson: string, configJson: string): Tokenizer {
  const json = toPlain(parseJsonObject(tokenizerJson, 'tokenizer.json')) as PlainObject
  const config = toPlain(parseJsonObject(configJson, 'tokenizer_config.json')) as PlainObject
  const inner = new HubTokenizer(json as never, config as never)
  return {
    encode: (text, options = {}) => [
      ...inner.encode(text, { add_special_tokens: options.addSpecialTokens ?? true }).ids,
    ],
    decode: (ids, options = {}) =>
      ids.length === 0 ? '' : inner.decode([...ids], { skip_special_tokens: options.skipSpecialTokens ?? false }),
    idOf: (token) => inner.token_to_id(token),
  }
}
