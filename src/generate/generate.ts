// Generation on an Executable: one prefill, then one decode step a token.
import { rowsOf } from '../backends/batch.ts'
import type { Executable } from '../backends/types.ts'

export interface GenerateOptions {
  /** New tokens at most. Default 20, as transformers. */
  readonly maxNewTokens?: number
  readonly eosIds?: readonly number[]
  readonly signal?: AbortSignal
}

/** Index of the first largest value. */
export function argmax(values: Float32Array): number {
  let best = 0
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i
  return best
}

/** Yields new ids, greedily, until an end id or the limit. */
export async function* generateIds(
  model: Executable,
  prompt: readonly number[],
  options: GenerateOptions = {},
): AsyncGenerator<number> {
  const { maxNewTokens = 20, eosIds = [] } = options
  model.truncate(0, 0)
  let logits = await model.run(rowsOf(prompt, 0, 'last'))
  for (let n = 0; n < maxNewTokens; n++) {
    options.signal?.throwIfAborted()
    const id = argmax(logits)
    if (eosIds.includes(id)) return
    yield id
    if (n + 1 < maxNewTokens) logits = await model.run(rowsOf([id], prompt.length + n, 'last'))
  }
}
