// Runs a window through a model and hands out the logits of the scored predictions, in pieces of bounded size.
import type { Executable } from '../backends/types.ts'
import type { Window } from './recipes.ts'

/** Most logits held at once for one model: 2^26 float32 = 256 MiB. */
const MAX_LOGITS = 1 << 26

/** Logits [R, V] of some predictions of a window, and the ids that they should have predicted. */
export interface Scored {
  readonly logits: Float32Array
  readonly targets: readonly number[]
}

/** Splits a window's rows so that no piece has more than `mostOutputs` outputs: [from, to) of rows, rows before the first output free. */
function pieces(rows: number, firstOutput: number, mostOutputs: number): [number, number][] {
  const out: [number, number][] = []
  for (let from = 0; from < rows; ) {
    const to = Math.min(rows, Math.max(from, firstOutput) + mostOutputs)
    out.push([from, to])
    from = to
  }
  return out
}

/** Computes a window from an empty cache; logits stay valid until the model's next run. `vocabulary` bounds the pieces. */
export async function* score(model: Executable, window: Window, vocabulary: number): AsyncGenerator<Scored> {
  const { ids, firstTarget } = window
  // The last id predicts nothing that is scored.
  const rows = ids.length - 1
  const firstOutput = firstTarget - 1
  model.truncate(0, 0)
  for (const [from, to] of pieces(rows, firstOutput, Math.max(1, Math.floor(MAX_LOGITS / vocabulary)))) {
    const count = to - from
    const first = Math.max(from, firstOutput)
    const logits = await model.run({
      ids: Int32Array.from(ids.slice(from, to)),
      positions: Int32Array.from({ length: count }, (_, i) => from + i),
      slots: new Int32Array(count),
      outputs: Int32Array.from({ length: to - first }, (_, i) => first - from + i),
      phase: 'prefill',
    })
    yield { logits, targets: ids.slice(first + 1, to + 1) }
  }
}
