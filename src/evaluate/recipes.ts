// How a text becomes windows and which predictions count. A reported perplexity always names its recipe:
//   windows       windows that do not overlap, every prediction counts, the remainder is dropped
//   transformers  the sliding windows of transformers' documentation, last shorter window included
//   llama         llama-perplexity: bos at each window's start, only the second half counts
import { ConfigError } from '../core/errors.ts'

export type RecipeName = 'windows' | 'transformers' | 'llama'

/** One forward pass. */
export interface Window {
  readonly ids: readonly number[]
  /** Index of the first id whose prediction is scored, from 1 on. */
  readonly firstTarget: number
  /** How many predictions the mean of this window stands for. */
  readonly counted: number
}

export interface RecipeOptions {
  /** Tokens a window. Default 512; never more than the model's context. */
  readonly window?: number
  /** Of `transformers`: how far a window moves. Default: the window. */
  readonly stride?: number
  /** Of `llama`: the id that each window begins with, where the tokenizer adds one. */
  readonly bosId?: number
}

const DEFAULT_WINDOW = 512

type Recipe = (ids: readonly number[], size: number, options: RecipeOptions) => Window[]

/** Windows that do not overlap. */
function windows(ids: readonly number[], size: number): Window[] {
  return Array.from({ length: Math.floor(ids.length / size) }, (_, w) => ({
    ids: ids.slice(w * size, (w + 1) * size),
    firstTarget: 1,
    counted: size - 1,
  }))
}

/** The documented loop: its count is one less than the targets of a window, its mean is over all that have a prediction. */
function transformers(ids: readonly number[], size: number, { stride = size }: RecipeOptions): Window[] {
  if (!Number.isSafeInteger(stride) || stride < 1 || stride > size)
    throw new ConfigError(`Cannot evaluate: the stride is ${stride}, legal are 1 to the window of ${size}`, {
      stride,
      window: size,
    })
  const out: Window[] = []
  let before = 0
  for (let begin = 0; begin < ids.length; begin += stride) {
    const end = Math.min(begin + size, ids.length)
    const targets = end - before
    // A window of one new id counts nothing.
    if (targets > 1)
      out.push({ ids: ids.slice(begin, end), firstTarget: Math.max(1, end - begin - targets), counted: targets - 1 })
    before = end
    if (end === ids.length) break
  }
  return out
}

function llama(ids: readonly number[], size: number, { bosId }: RecipeOptions): Window[] {
  if (ids.length < 2 * size)
    throw new ConfigError(
      `Cannot evaluate by the recipe "llama": the text has ${ids.length} tokens, windows of ${size} need at least ${2 * size}`,
      { tokens: ids.length, window: size, hint: 'use a longer text or a smaller window' },
    )
  const firstTarget = Math.floor(size / 2) + 1
  return windows(ids, size).map((w) => ({
    ids: bosId === undefined ? w.ids : [bosId, ...w.ids.slice(1)],
    firstTarget,
    counted: size - firstTarget,
  }))
}

const RECIPES: Readonly<Record<RecipeName, Recipe>> = { windows, transformers, llama }

/** The windows of a text for a model whose context has `contextLength` tokens. Throws ConfigError where there is none. */
export function planWindows(
  recipe: RecipeName,
  ids: readonly number[],
  contextLength: number,
  options: RecipeOptions = {},
): Window[] {
  const size = options.window ?? Math.min(DEFAULT_WINDOW, contextLength)
  if (!Number.isSafeInteger(size) || size < 2 || size > contextLength)
    throw new ConfigError(
      `Cannot evaluate: the window is ${size}, legal are 2 to the model's context of ${contextLength}`,
      {
        window: size,
        contextLength,
      },
    )
  const planned = RECIPES[recipe](ids, size, options)
  if (planned.length > 0) return planned
  throw new ConfigError(
    `Cannot evaluate: the text has ${ids.length} tokens, which is less than one window of ${size}`,
    {
      tokens: ids.length,
      window: size,
      hint: 'use a longer text or a smaller window',
    },
  )
}
