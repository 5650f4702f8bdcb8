// Perplexity by the `windows` recipe: windows that do not overlap, every prediction counts, the remainder is dropped.

import { rowsOf } from '../backends/batch.ts'
import type { Executable } from '../backends/types.ts'

export interface PerplexityResult {
  readonly perplexity: number
  /** Mean negative log-likelihood, nats a token. */
  readonly nll: number
  readonly tokens: number
}

/** -log softmax(logits)[target], float64. */
export function negativeLogLikelihood(logits: Float32Array, target: number): number {
  let max = -Infinity
  for (const x of logits) if (x > max) max = x
  let sum = 0
  for (const x of logits) sum += Math.exp(x - max)
  return Math.log(sum) + max - logits[target]
}

/** Perplexity of `ids` in windows of `window` tokens. */
export async function perplexity(
  model: Executable,
  ids: readonly number[],
  window = 512,
  onProgress?: (done: number, total: number) => void,
): Promise<PerplexityResult> {
  let nll = 0
  let tokens = 0
  const windows = Math.floor(ids.length / window)
  for (let w = 0; w < windows; w++) {
    const piece = ids.slice(w * window, (w + 1) * window)
    model.truncate(0, 0)
    const logits = await model.run(rowsOf(piece, 0, 'all'))
    const vocabulary = logits.length / window
    for (let i = 0; i + 1 < window; i++) {
      nll += negativeLogLikelihood(logits.subarray(i * vocabulary, (i + 1) * vocabulary), piece[i + 1])
      tokens++
    }
    onProgress?.(w + 1, windows)
  }
  const mean = nll / tokens
  return { perplexity: Math.exp(mean), nll: mean, tokens }
}
