// What a tokenizer is to the rest of fewbit, whatever file it came from.

export interface EncodeOptions {
  /** Adds bos, eos or whatever the post-processor adds. Default true. */
  readonly addSpecialTokens?: boolean
  /** Special tokens inside the text are plain text. Default false. */
  readonly splitSpecialTokens?: boolean
}

export interface DecodeOptions {
  /** Leaves out tokens that are marked special. Default false. */
  readonly skipSpecialTokens?: boolean
}

/** One turn of a conversation; templates may read further fields (`tool_calls`, `reasoning_content` ...). */
export interface ChatMessage {
  readonly role: string
  readonly content: unknown
  readonly [field: string]: unknown
}

export interface ChatOptions {
  /** Ends with the opening of an assistant turn. Default false. */
  readonly addGenerationPrompt?: boolean
  /** A template of one's own, or the name of one of the tokenizer's named templates. */
  readonly chatTemplate?: string
  readonly tools?: readonly unknown[]
  readonly documents?: readonly unknown[]
  /** Further variables of the template, such as `enable_thinking`. */
  readonly variables?: Readonly<Record<string, unknown>>
}

/** Ids with a role; undefined where the tokenizer names none. */
export interface SpecialIds {
  readonly bos?: number
  readonly eos?: number
  readonly pad?: number
  readonly unk?: number
}

/** Decodes ids one by one: what `push` returns never ends inside a character. */
export interface DecodeStream {
  /** Text that became certain with this id; may be empty. */
  push(id: number): string
  /** What is left, with U+FFFD for bytes that never became a character. */
  flush(): string
}

export interface Tokenizer {
  encode(text: string, options?: EncodeOptions): number[]
  decode(ids: readonly number[], options?: DecodeOptions): string
  /** Streaming counterpart of `decode`; the pieces joined are its text (see decode-stream.ts for the one exception). */
  decodeStream(options?: DecodeOptions): DecodeStream
  /** The conversation as text. Throws UnsupportedError where the tokenizer has no template, ConfigError where the template refuses. */
  renderChat(messages: readonly ChatMessage[], options?: ChatOptions): string
  /** The conversation as ids: the rendered text, encoded without further special tokens. */
  applyChatTemplate(messages: readonly ChatMessage[], options?: ChatOptions): number[]
  /** Id of a token's exact string. */
  idOf(token: string): number | undefined
  /** Exact string of an id. */
  tokenOf(id: number): string | undefined
  /** The bytes that an id stands for inside a text; undefined for an unknown id. A leading space of the first token is kept. */
  bytesOf(id: number): Uint8Array | undefined
  isSpecial(id: number): boolean
  readonly specialIds: SpecialIds
  /** One more than the largest id. */
  readonly vocabSize: number
  /** The default chat template, if there is one. */
  readonly chatTemplate: string | undefined
  /** The tokenizer.json object that it was built from; for writing other formats. */
  readonly json: TokenizerJson
}

/** The parts of tokenizer.json that fewbit reads itself; everything else is handed to the library as it stands. */
export interface TokenizerJson {
  readonly added_tokens: readonly AddedTokenJson[]
  readonly normalizer: StepJson | null
  readonly pre_tokenizer: StepJson | null
  readonly post_processor: StepJson | null
  readonly decoder: StepJson | null
  readonly model: ModelJson
  readonly [key: string]: unknown
}

export interface AddedTokenJson {
  readonly id: number
  readonly content: string
  readonly single_word?: boolean
  readonly lstrip?: boolean
  readonly rstrip?: boolean
  readonly normalized?: boolean
  readonly special?: boolean
}

/** A normalizer, pre-tokenizer, post-processor or decoder: a type and its own fields. */
export interface StepJson {
  readonly type: string
  readonly [field: string]: unknown
}

export interface ModelJson {
  readonly type?: string
  /** token -> id (BPE, WordPiece), or [token, score] by id (Unigram). */
  readonly vocab: Readonly<Record<string, number>> | readonly (readonly [string, number])[]
  readonly merges?: readonly (string | readonly [string, string])[]
  readonly unk_token?: string | null
  readonly byte_fallback?: boolean
  readonly [field: string]: unknown
}
