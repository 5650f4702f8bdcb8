// What generation is given and what it gives.
import type { Executable } from '../backends/types.ts'
import type { Tokenizer } from '../text/types.ts'
import type { GenerationSettings } from './config.ts'
import type { Sequences } from './sequences.ts'

/** A model as generation sees it. */
export interface GenerationModel {
  readonly executable: Executable
  /** Longest sequence, prompt included (max_position_embeddings). */
  readonly contextLength: number
  /** Read from generation_config.json. */
  readonly defaults?: GenerationSettings
  /** Needed for stop strings and for the text of streams. */
  readonly tokenizer?: Tokenizer
  /** longrope: `original_max_position_embeddings` + 1 (see Sequences). */
  readonly recomputeFrom?: number
}

export interface GenerateOptions extends GenerationSettings {
  /** For sampling; the same seed gives the same text. Default: a random one. */
  readonly seed?: number
  readonly signal?: AbortSignal
  /** Sequences whose cache is used and left filled: the next call computes only what differs. Default: none is kept. */
  readonly sequences?: Sequences
}

/** Why a sequence ended: an end token, a stop string, the number of tokens asked for, or the end of the model's context. */
export type FinishReason = 'eos' | 'stop' | 'length' | 'context'

export interface GeneratedSequence {
  /** Prompt and new tokens, the end token included; no padding. */
  readonly ids: number[]
  readonly promptLength: number
  readonly finish: FinishReason
  /** Of beam search: the sum of log probabilities over length^lengthPenalty. */
  readonly score?: number
}

/** One new token of a stream. Texts joined are the decoded text; an end token has the text that was still held back. */
export interface StreamPiece {
  readonly id: number
  readonly text: string
  /** With the last piece. */
  readonly finish?: FinishReason
}

/** Changes one row of float32 scores in place. `ids`: prompt and new tokens of the row so far, without padding. */
export interface Processor {
  readonly name: string
  apply(ids: readonly number[], scores: Float32Array): void
}
