// A model with its tokenizer, for `run` and `chat`, and the sampling flags as generation options.
import type { Executable, Precision } from '../backends/types.ts'
import { stream } from '../generate/generate.ts'
import type { GenerateOptions, StreamPiece } from '../generate/types.ts'
import type { Tokenizer } from '../text/types.ts'
import { precisionOf } from './options.ts'
import type { Output } from './output.ts'
import { deviceOf, openSource, prepareModel, readGenerationDefaults, tokenizerOf } from './session.ts'

export interface TextModel {
  readonly executable: Executable
  readonly tokenizer: Tokenizer
  readonly contextLength: number
  stream(ids: readonly number[], options: GenerateOptions): AsyncGenerator<StreamPiece>
  dispose(): void
}

/** Opens what `run` and `chat` need. Quantised activations are allowed unless --exact. */
export async function textModel(
  name: string,
  options: Readonly<Record<string, unknown>>,
  output: Output,
  signal: AbortSignal,
): Promise<TextModel> {
  const precision: Precision = precisionOf(options, 'fast')
  const source = await openSource(name, output)
  const tokenizer = await tokenizerOf(source)
  const executable = await prepareModel(source, { ...deviceOf(options), precision, output, signal })
  const { settings, warnings } = await readGenerationDefaults(source)
  for (const message of warnings) output.event({ event: 'warning', message })
  await source.checkpoint.close()
  const model = { executable, contextLength: source.config.maxPositions, defaults: settings, tokenizer }
  return {
    executable,
    tokenizer,
    contextLength: model.contextLength,
    stream: (ids, given) => stream(model, ids, given),
    dispose: () => executable.dispose(),
  }
}

/** `--temperature 0` is greedy, any other sampling flag samples, none leaves it to generation_config.json. */
export function streamOptions(options: Readonly<Record<string, unknown>>): GenerateOptions {
  const samples = ['temperature', 'topK', 'topP', 'minP'].some((key) => options[key] !== undefined)
  const temperature = options.temperature as number | undefined
  return {
    maxNewTokens: options.maxNewTokens as number,
    doSample: temperature === 0 ? false : samples ? true : undefined,
    temperature: temperature === 0 ? undefined : temperature,
    topK: options.topK as number | undefined,
    topP: options.topP as number | undefined,
    minP: options.minP as number | undefined,
    repetitionPenalty: options.repetitionPenalty as number | undefined,
    seed: options.seed as number | undefined,
    stopStrings: options.stop as string[] | undefined,
  }
}
