// What `eval` does: text -> ids -> windows -> perplexity, and the divergence from a baseline where one is given.

import { prepareModel } from '../api/prepare.ts'
import { tokenizerOf } from '../api/tokenizer.ts'
import { openQuantizers } from '../backends/index.ts'
import type { Precision } from '../backends/types.ts'
import { UsageError } from '../core/errors.ts'
import { evaluateDivergence } from '../evaluate/divergence.ts'
import { evaluatePerplexity } from '../evaluate/perplexity.ts'
import { planWindows, type RecipeName } from '../evaluate/recipes.ts'
import { idsForRecipe } from '../evaluate/text.ts'
import type { Output } from './output.ts'
import { openSource } from './session.ts'

export interface EvaluationRequest {
  readonly model: string
  readonly baseline: string | undefined
  readonly text: string
  readonly recipe: RecipeName
  readonly window: number | undefined
  readonly stride: number | undefined
  readonly limit: number | undefined
  readonly precision: Precision
  readonly device: string
  readonly threads: number
  readonly output: Output
  readonly signal: AbortSignal
}

export interface EvaluationResult {
  readonly perplexity: number
  readonly nll: number
  readonly tokens: number
  readonly kl?: number
  readonly top1?: number
  readonly [field: string]: unknown
}

/** Evaluates one model. The tokenizer is the model's own, or the baseline's where the model has none. */
export async function evaluateModels(request: EvaluationRequest): Promise<EvaluationResult> {
  const { output, signal, recipe } = request
  const source = await openSource(request.model, output)
  const base = request.baseline ? await openSource(request.baseline, output) : undefined
  if (base && base.config.vocabSize !== source.config.vocabSize) {
    throw new UsageError(
      `The baseline's vocabulary is ${base.config.vocabSize}, the model's ${source.config.vocabSize}: they cannot be compared`,
      {
        expected: source.config.vocabSize,
        actual: base.config.vocabSize,
      },
    )
  }
  const tokenizer = await tokenizerOf(source.checkpoint.files).catch((error) => {
    if (!base) throw error
    return tokenizerOf(base.checkpoint.files)
  })
  const encoded = idsForRecipe(recipe, request.text, tokenizer, tokenizer.specialIds.eos)
  const ids = encoded.ids.slice(0, request.limit)
  const windows = planWindows(recipe, ids, source.config.maxPositions, {
    window: request.window,
    stride: request.stride,
    bosId: encoded.bosId,
  })
  const options = {
    device: request.device,
    threads: request.threads,
    precision: request.precision,
    onEvent: output.event,
    signal,
  }
  const model = await prepareModel(source, options)
  const kernels = await openQuantizers(request.device, { threads: request.threads, signal })
  const work = { onEvent: output.event, signal, kernels }
  try {
    if (!base) return { ...(await evaluatePerplexity(model, windows, source.config.vocabSize, work)) }
    const baseline = await prepareModel(base, options)
    const {
      baseline: baselineResult,
      model: result,
      meanDivergence,
      topAgreement,
      ...rest
    } = await evaluateDivergence(baseline, model, windows, source.config.vocabSize, work)
    baseline.dispose()
    return { ...result, kl: meanDivergence, top1: topAgreement, ...rest, baselinePerplexity: baselineResult.perplexity }
  } finally {
    model.dispose()
    await source.checkpoint.close()
    await base?.checkpoint.close()
  }
}
