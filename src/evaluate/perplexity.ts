// Perplexity of a text by a recipe, window by window.
import type { Executable } from '../backends/types.ts'
import type { WorkOptions } from '../core/events.ts'
import type { QuantizerKernels } from '../core/kernels.ts'
import { score } from './forward.ts'
import { negativeLogLikelihoodsWith } from './likelihood.ts'
import type { Window } from './recipes.ts'

export interface EvaluateOptions extends WorkOptions {
  /** Compiled sums over logits; absent: plain TypeScript. */
  readonly kernels?: QuantizerKernels
}

export interface PerplexityResult {
  readonly perplexity: number
  /** Of the perplexity, from the spread of the single predictions. */
  readonly standardError: number
  /** Mean negative log-likelihood, nats a token. */
  readonly nll: number
  /** Predictions that count. */
  readonly tokens: number
}

/** Running sums of predictions; `add` takes one window's values and how many they stand for. */
export class Average {
  private sum = 0
  private squares = 0
  private values = 0
  private weighted = 0
  tokens = 0

  add(nlls: Float64Array, counted: number): void {
    let sum = 0
    for (const nll of nlls) {
      sum += nll
      this.squares += nll * nll
    }
    this.sum += sum
    this.values += nlls.length
    this.weighted += (sum / nlls.length) * counted
    this.tokens += counted
  }

  result(): PerplexityResult {
    const nll = this.weighted / this.tokens
    const mean = this.sum / this.values
    const variance = Math.max(0, this.squares / this.values - mean * mean)
    const perplexity = Math.exp(nll)
    const standardError = this.values > 1 ? perplexity * Math.sqrt(variance / (this.values - 1)) : 0
    return { perplexity, standardError, nll, tokens: this.tokens }
  }
}

/** Evaluates planned windows; `vocabulary` is the model's number of logits. Reports progress with the perplexity so far. */
export async function evaluatePerplexity(
  model: Executable,
  windows: readonly Window[],
  vocabulary: number,
  options: EvaluateOptions = {},
): Promise<PerplexityResult> {
  const average = new Average()
  for (const [w, window] of windows.entries()) {
    options.signal?.throwIfAborted()
    const nlls: number[] = []
    for await (const { logits, targets } of score(model, window, vocabulary))
      for (const nll of await negativeLogLikelihoodsWith(options.kernels, logits, targets)) nlls.push(nll)
    average.add(Float64Array.from(nlls), window.counted)
    const { perplexity } = average.result()
    options.onEvent?.({
      event: 'progress',
      name: 'perplexity',
      done: w + 1,
      total: windows.length,
      unit: 'windows',
      perplexity,
    })
  }
  return average.result()
}
