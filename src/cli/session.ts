// Opening what the user named: files -> model source -> tokenizer and executable. The one place where commands meet the library's layers.
import { openBackend, openQuantizers } from '../backends/index.ts'
import type { Executable, Precision } from '../backends/types.ts'
import { localFiles } from '../checkpoint/node/files.ts'
import { openCheckpoint, readText } from '../checkpoint/open.ts'
import { FileError } from '../core/errors.ts'
import { type PlainObject, parseJsonObject, toPlain } from '../core/json.ts'
import type { QuantizerKernels } from '../core/kernels.ts'
import { type GenerationSettings, readGenerationConfig } from '../generate/config.ts'
import { type ModelSource, modelSource } from '../models/source.ts'
import { tokenizerFromJson } from '../text/tokenizer.ts'
import type { Tokenizer } from '../text/types.ts'
import { defaultThreads } from './machine.ts'
import type { Output } from './output.ts'
import { modelPath } from './paths.ts'

/** The model at a path, or `embedded`; warnings go to the printer. */
export async function openSource(name: string, output: Output): Promise<ModelSource> {
  const source = await modelSource(await openCheckpoint(await localFiles(modelPath(name))))
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

/** The tokenizer of a model: tokenizer.json and its side files in a folder. */
export async function tokenizerOf(source: ModelSource): Promise<Tokenizer> {
  const { files } = source.checkpoint
  const read = async (name: string) => ((await files.has(name)) ? readText(files, name) : undefined)
  const json = await read('tokenizer.json')
  if (json === undefined) {
    throw new FileError(`Cannot encode text for "${files.name}": it holds no tokenizer.json`, {
      file: files.name,
      hint: 'copy tokenizer.json and tokenizer_config.json of the original model into the folder',
    })
  }
  return tokenizerFromJson(json, await read('tokenizer_config.json'), await read('chat_template.jinja'))
}

/** generation_config.json as settings, with a warning for each key that cannot be followed. */
export async function readGenerationDefaults(
  source: ModelSource,
): Promise<{ settings: GenerationSettings; warnings: string[] }> {
  const { files } = source.checkpoint
  const name = 'generation_config.json'
  const stored = (await files.has(name)) ? parseJsonObject(await readText(files, name), name) : source.configJson
  return readGenerationConfig(toPlain(stored) as PlainObject)
}
