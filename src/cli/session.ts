// Opening what the user named, with the command line's defaults and its printer.
import { defaultThreads } from '../api/location.ts'
import { generationDefaults, openModel } from '../api/open.ts'
import { recomputeLength } from '../api/prepare.ts'
import { tokenizerOf } from '../api/tokenizer.ts'
import type { Executable } from '../backends/types.ts'
import type { GenerationModel } from '../generate/types.ts'
import type { ModelSource } from '../models/source.ts'
import type { Output } from './output.ts'
import { modelPath } from './paths.ts'

/** The model at a path, or `embedded`; warnings go to the printer. */
export async function openSource(name: string, output: Output): Promise<ModelSource> {
  const source = await openModel(modelPath(name), { onEvent: output.event })
  for (const message of source.warnings) output.event({ event: 'warning', message })
  return source
}

/** `--device` and `--threads` with their defaults. */
export function deviceOf(options: Readonly<Record<string, unknown>>): { device: string; threads: number } {
  return { device: String(options.device ?? 'cpu'), threads: Number(options.threads ?? defaultThreads()) }
}

/** A prepared model as generation sees it: with its tokenizer and generation_config.json. */
export async function generationModel(
  source: ModelSource,
  executable: Executable,
  output: Output,
): Promise<GenerationModel & { tokenizer: NonNullable<GenerationModel['tokenizer']> }> {
  const { settings, warnings } = await generationDefaults(source)
  for (const message of warnings) output.event({ event: 'warning', message })
  return {
    executable,
    contextLength: source.config.maxPositions,
    defaults: settings,
    tokenizer: await tokenizerOf(source.checkpoint.files),
    recomputeFrom: recomputeLength(source.config),
  }
}
