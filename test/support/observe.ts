// What a model gives on a device: logits of prompts, of decode steps, alone and together.
import { rowsOf } from '../../src/backends/batch.ts'
import { openBackend } from '../../src/backends/index.ts'
import type { CompileOptions, Executable, RowBatch } from '../../src/backends/types.ts'
import type { ModelSource } from '../../src/models/source.ts'
import { inputOf } from '../../src/weights/quantized-input.ts'
import type { QuantizedWeight } from '../../src/weights/weight.ts'
import { type Device, openDevice } from './devices.ts'
import { CODE_STEP, FAST, KERNEL } from './tolerances.ts'

/** How close a model's results come on another device, by what its weights do to activations. */
export interface Exactness {
  readonly kernel: number
  readonly fast: number
  /** False where a row's result depends on its companions by the method's definition (LLM.int8 with a threshold). */
  readonly isRowwise: boolean
}

export function exactnessOf(weights: readonly QuantizedWeight[]): Exactness {
  const coded = weights.flatMap(({ scheme }) =>
    scheme.kind === 'affine' && scheme.activations ? [scheme.activations] : [],
  )
  const hasCodes = coded.length > 0 || weights.some(({ scheme }) => inputOf(scheme))
  const isRowwise = coded.every(({ outlierThreshold }) => outlierThreshold === 0)
  return { kernel: hasCodes ? CODE_STEP : KERNEL, fast: FAST, isRowwise }
}

/** Rows of a prompt: more than a slice of 8 and a panel of 16, not a multiple of either. */
export const PROMPT = 21
/** Tokens that are also run one by one. */
const STEPS = 4
/** Lengths of the sequences that decode together. */
const BATCH = [5, 21, 1, 13, 2, 8, 3, 9, 4]

/** What a model gives, as logits. */
export type Observation = {
  /** Every row of a prompt. */
  readonly prompt: Float32Array
  /** The next token after it. */
  readonly next: Float32Array
  /** The first tokens of the prompt again, one at a time. */
  readonly steps: Float32Array
  /** The next token of several sequences, each alone. */
  readonly alone: Float32Array
  /** The same in one call. */
  readonly together: Float32Array
}

/** One decode step of several sequences: `ids[i]` of slot `i + first` at `positions[i]`. */
function decodeStep(ids: readonly number[], positions: readonly number[], first: number): RowBatch {
  const rows = ids.map((_, i) => i)
  return {
    ids: Int32Array.from(ids),
    positions: Int32Array.from(positions),
    slots: Int32Array.from(rows, (row) => row + first),
    outputs: Int32Array.from(rows),
    phase: 'decode',
  }
}

/** Runs the cases of an Observation. */
export async function observe(model: Executable, vocabulary: number, length = PROMPT): Promise<Observation> {
  const id = (i: number) => (i * 37 + 11) % vocabulary
  const ids = Array.from({ length: Math.max(length, PROMPT) }, (_, i) => id(i))
  const run = async (batch: RowBatch) => (await model.run(batch)).slice()
  const prompt = await run(rowsOf(ids, 0, 'all'))
  const next = await run(rowsOf([id(3)], ids.length, 'last'))
  const steps: Float32Array[] = [await run({ ...rowsOf([ids[0]], 0, 'last', 1), phase: 'decode' })]
  for (let i = 1; i < STEPS; i++) steps.push(await run(rowsOf([ids[i]], i, 'last', 1)))
  const alone: Float32Array[] = []
  for (const [i, length] of BATCH.entries()) {
    await run(rowsOf(ids.slice(0, length), 0, 'last', 2 + i))
    alone.push(await run(rowsOf([id(i)], length, 'last', 2 + i)))
  }
  const together = await run(
    decodeStep(
      BATCH.map((_, i) => id(i)),
      BATCH,
      2,
    ),
  )
  return { prompt, next, steps: joined(steps), alone: joined(alone), together }
}

function joined(parts: readonly Float32Array[]): Float32Array {
  const out = new Float32Array(parts.reduce((sum, p) => sum + p.length, 0))
  let at = 0
  for (const part of parts) {
    out.set(part, at)
    at += part.length
  }
  return out
}

/** Observes a source on a compiled device. */
export async function observeOn(
  device: Device,
  source: ModelSource,
  options: Pick<CompileOptions, 'precision' | 'threads'> & { readonly prompt?: number },
): Promise<{ seen: Observation; kernels: ReadonlySet<string> }> {
  const backend = await openDevice(device)
  const model = await backend.compile(source.graph, source.load, options)
  try {
    const kernels = new Set(model.kernels().map((k) => k.kernel))
    return { seen: await observe(model, source.config.vocabSize, options.prompt), kernels }
  } finally {
    model.dispose()
  }
}

/** Observes a source on the reference backend. */
export async function observeReference(source: ModelSource, prompt?: number): Promise<Observation> {
  const backend = await openBackend('reference')
  const model = await backend.compile(source.graph, source.load, { precision: 'exact', threads: 1 })
  return observe(model, source.config.vocabSize, prompt)
}
