// Opening what the user named, with the command line's defaults and its printer.
import { defaultThreads } from '../api/location.ts'
import { generationDefaults, openModel } from '../api/open.ts'
import { tokenizerOf } from '../api/tokenizer.ts'
import { openBackend, openQuantizers } from '../backends/index.ts'
import type { Executable, Precision } from '../backends/types.ts'
import type { QuantizerKernels } from '../core/kernels.ts'
import type { GenerationModel } from '../generate/types.ts'
import type { ModelSource } from '../models/source.ts'
import type { Output } from './output.ts'
import { modelPath } from './paths.ts'

/** The model at a path, or `embedded`; warnings go to the printer. */
export async function openSource(name: string, output: Output): Promise<ModelSource> {
  const source = await openModel(modelPath(name))
  for (const message of source.warnings) output.event({ event: 'warning', message })
  return source
}

export interface PrepareOptions {
  readonly device: string
  readonly threads: number
  readonly precision: Precision
  readonly output?: Output
  readonly signal?: AbortSignal
}

/** `--device` and `--threads` with their defaults. */
export function deviceOf(options: Readonly<Record<string, unknown>>): { device: string; threads: number } {
  return { device: String(options.device ?? 'cpu'), threads: Number(options.threads ?? defaultThreads()) }
}

/** Reads, repacks and compiles a model for a device. */
export async function prepareModel(source: ModelSource, options: PrepareOptions): Promise<Executable> {
  const backend = await openBackend(options.device)
  for (const message of backend.notices ?? []) options.output?.event({ event: 'warning', message })
  const kernels = await quantizersOf(options.device, options.threads, options.signal)
  return backend.compile(source.graph, (index) => source.load(index, kernels), {
    precision: options.precision,
    threads: options.threads,
    signal: options.signal,
    onParameter: (done, total) =>
      options.output?.event({ event: 'progress', name: 'load', done, total, unit: 'tensors' }),
  })
}

/** The compiled quantisers for a device; the reference device has none and uses the TypeScript oracle. */
export async function quantizersOf(
  device: string,
  threads: number,
  signal?: AbortSignal,
): Promise<QuantizerKernels | undefined> {
  return device === 'reference' ? undefined : openQuantizers(device === 'wasm' ? 'wasm' : 'cpu', { threads, signal })
}

/** A prepared model as generation sees it: with its tokenizer and generation_config.json. */
export async function generationModel(
  source: ModelSource,
  executable: Executable,
  output: Output,
): Promise<GenerationModel & { tokenizer: NonNullable<GenerationModel['tokenizer']> }> {
  const { settings, warnings } = await generationDefaults(source)
  for (const message of warnings) output.event({ event: 'warning', message })
  const { rope, maxPositions } = source.config
  return {
    executable,
    contextLength: maxPositions,
    defaults: settings,
    tokenizer: await tokenizerOf(source.checkpoint.files),
    recomputeFrom: rope.type === 'longrope' ? rope.originalMaxPositions + 1 : undefined,
  }
}
