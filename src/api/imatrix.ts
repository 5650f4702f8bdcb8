// `fewbit imatrix`: text -> chunks as llama-imatrix cuts them -> sums of squared inputs -> a GGUF file.
import { openBackend, openQuantizers } from '../backends/index.ts'
import { ActivationPool, DEFAULT_MEMORY_BYTES } from '../calibrate/activations.ts'
import { type CalibrationIds, sequenceBatches } from '../calibrate/batches.ts'
import { calibrationBlocks } from '../calibrate/blocks.ts'
import { collectImportance, type Importance, writeImportance } from '../calibrate/importance.ts'
import { PieceRunner } from '../calibrate/runner.ts'
import type { CalibrationFile } from '../calibrate/samples.ts'
import type { OutputStore } from '../checkpoint/types.ts'
import { ConfigError } from '../core/errors.ts'
import type { WorkOptions } from '../core/events.ts'
import { llamaIds } from '../evaluate/text.ts'
import { ggufNameOf } from '../models/parameters.ts'
import type { ModelSource } from '../models/source.ts'
import type { Tokenizer } from '../text/types.ts'
import { lazyTokenizer } from './calibration.ts'

export interface ImatrixOptions extends WorkOptions {
  readonly device: string
  readonly threads: number
  /** Tokens of a chunk. Default 512, at most the model's context. */
  readonly length?: number
  /** Chunks (of a text), or samples (of any other file), that are used at most. */
  readonly samples?: number
  readonly memoryBytes?: number
  /** What the file calls the text it was collected from. */
  readonly dataset: string
}

export interface ImatrixResult {
  readonly entries: readonly Importance[]
  readonly chunks: number
  readonly chunkSize: number
}

const DEFAULT_LENGTH = 512

/** Collects an importance matrix and writes it. Throws ConfigError where the text is too short. */
export async function makeImatrix(
  source: ModelSource,
  file: CalibrationFile,
  output: OutputStore,
  options: ImatrixOptions,
): Promise<ImatrixResult> {
  const { device, threads, onEvent, signal, memoryBytes = DEFAULT_MEMORY_BYTES } = options
  const ids = chunksOf(source, file, await lazyTokenizer(source), options)
  const kernels = await openQuantizers(device, { threads, signal })
  const backend = await openBackend(device)
  const pool = new ActivationPool(memoryBytes, output.scratch)
  const runner = new PieceRunner({ backend, threads, batches: sequenceBatches(ids), pool, signal })
  const index = new Map(source.parameters.map((p, i) => [p.parameter.path, i]))
  try {
    const entries = await collectImportance(
      {
        graph: source.graph,
        load: (path) => source.load(index.get(path)!, kernels),
        nameOf: (path) => ggufNameOf(source.parameters[index.get(path)!].names),
      },
      runner,
      { kernels, onEvent, signal },
    )
    const chunks = ids.blocks.length
    await writeImportance(entries, { datasets: [options.dataset], chunks, chunkSize: ids.length }, output)
    return { entries, chunks, chunkSize: ids.length }
  } finally {
    await pool.dispose()
  }
}

/** A text as llama-imatrix reads it; any other file by the rule of joining. */
function chunksOf(
  { config }: ModelSource,
  file: CalibrationFile,
  tokenizer: () => Tokenizer,
  { length = Math.min(DEFAULT_LENGTH, config.maxPositions), samples, onEvent }: ImatrixOptions,
): CalibrationIds {
  const context = { contextLength: config.maxPositions, vocabSize: config.vocabSize }
  if (file.kind === 'samples') {
    const rules = { cut: 'joined', length, samples } as const
    const { ids, summary } = calibrationBlocks(file, tokenizer, { rules, ...context })
    onEvent?.({ event: 'step', name: summary })
    return ids
  }
  const { ids, bosId } = llamaIds(file.text, tokenizer())
  if (ids.length < 2 * length)
    throw new ConfigError(
      `Cannot collect an importance matrix from "${file.name}": it has ${ids.length} tokens, chunks of ${length} need at least ${2 * length}`,
      {
        file: file.name,
        actual: ids.length,
        expected: 2 * length,
        hint: 'use a longer text, or a smaller --calibration-length',
      },
    )
  const count = Math.min(Math.floor(ids.length / length), samples ?? Infinity)
  const blocks = Array.from({ length: count }, (_, c) => {
    const block = Int32Array.from(ids.slice(c * length, (c + 1) * length))
    if (bosId !== undefined) block[0] = bosId
    return block
  })
  onEvent?.({ event: 'step', name: `${file.name}: ${count} chunks of ${length} tokens` })
  return { blocks, length }
}
