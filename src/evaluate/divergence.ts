// How far a model's predictions are from a baseline's: Kullback-Leibler divergence and agreement of the most likely token.
// Both models go through the text together, so that only one window's logits of each are held.
import type { Executable } from '../backends/types.ts'
import type { QuantizerKernels } from '../core/kernels.ts'
import { score } from './forward.ts'
import { type Comparison, compareRowsWith } from './likelihood.ts'
import { Average, type EvaluateOptions, type PerplexityResult } from './perplexity.ts'
import type { Window } from './recipes.ts'

export interface DivergenceResult {
  readonly baseline: PerplexityResult
  readonly model: PerplexityResult
  /** Nats a prediction. */
  readonly meanDivergence: number
  readonly divergenceError: number
  readonly medianDivergence: number
  /** 99 of 100 predictions are below. */
  readonly divergence99: number
  readonly maxDivergence: number
  /** Share of predictions with the same most likely token, 0 to 1. */
  readonly topAgreement: number
  readonly topAgreementError: number
}

/** Value at `share` of a sorted list, between neighbours linearly. */
function quantile(sorted: Float64Array, share: number): number {
  const at = share * (sorted.length - 1)
  const low = Math.floor(at)
  const high = Math.min(low + 1, sorted.length - 1)
  return sorted[low] + (sorted[high] - sorted[low]) * (at - low)
}

function summary(values: readonly number[]): { mean: number; error: number } {
  let sum = 0
  let squares = 0
  for (const v of values) {
    sum += v
    squares += v * v
  }
  const mean = sum / values.length
  const variance = Math.max(0, squares / values.length - mean * mean)
  return { mean, error: values.length > 1 ? Math.sqrt(variance / (values.length - 1)) : 0 }
}

async function compareWindow(
  baseline: Executable,
  model: Executable,
  window: Window,
  vocabulary: number,
  kernels: QuantizerKernels | undefined,
): Promise<Comparison[]> {
  const out: Comparison[] = []
  const ours = score(model, window, vocabulary)
  for await (const { logits, targets } of score(baseline, window, vocabulary)) {
    const piece = await ours.next()
    for (const row of await compareRowsWith(kernels, logits, piece.value!.logits, targets)) out.push(row)
  }
  return out
}

/** Compares `model` with `baseline` (two executables with the same vocabulary) on planned windows. */
export async function evaluateDivergence(
  baseline: Executable,
  model: Executable,
  windows: readonly Window[],
  vocabulary: number,
  options: EvaluateOptions = {},
): Promise<DivergenceResult> {
  const averages = { baseline: new Average(), model: new Average() }
  const divergences: number[] = []
  const agreements: number[] = []
  for (const [w, window] of windows.entries()) {
    options.signal?.throwIfAborted()
    const rows = await compareWindow(baseline, model, window, vocabulary, options.kernels)
    averages.baseline.add(
      Float64Array.from(rows, (r) => r.baselineNll),
      window.counted,
    )
    averages.model.add(
      Float64Array.from(rows, (r) => r.nll),
      window.counted,
    )
    for (const row of rows) {
      divergences.push(row.divergence)
      agreements.push(row.sameTop ? 1 : 0)
    }
    const progress = { done: w + 1, total: windows.length, unit: 'windows' }
    options.onEvent?.({ event: 'progress', name: 'divergence', ...progress, divergence: summary(divergences).mean })
  }
  const divergence = summary(divergences)
  const agreement = summary(agreements)
  const sorted = Float64Array.from(divergences).sort()
  return {
    baseline: averages.baseline.result(),
    model: averages.model.result(),
    meanDivergence: divergence.mean,
    divergenceError: divergence.error,
    medianDivergence: quantile(sorted, 0.5),
    divergence99: quantile(sorted, 0.99),
    maxDivergence: sorted[sorted.length - 1],
    topAgreement: agreement.mean,
    topAgreementError: agreement.error,
  }
}
