// Opening a model for `run` and `chat`, and the sampling flags as generation options.
import { prepareModel } from '../api/prepare.ts'
import type { Executable } from '../backends/types.ts'
import type { GenerateOptions, GenerationModel } from '../generate/types.ts'
import type { Tokenizer } from '../text/types.ts'
import { precisionOf } from './options.ts'
import type { Output } from './output.ts'
import { deviceOf, generationModel, openSource } from './session.ts'

export interface TextModel extends GenerationModel {
  readonly executable: Executable
  readonly tokenizer: Tokenizer
}

/** Opens what `run` and `chat` need. Quantised activations are allowed on quantised weights unless --exact. */
export async function textModel(
  name: string,
  options: Readonly<Record<string, unknown>>,
  output: Output,
  signal: AbortSignal,
): Promise<TextModel> {
  const precision = precisionOf(options, 'fast')
  const source = await openSource(name, output)
  try {
    const executable = await prepareModel(source, { ...deviceOf(options), precision, onEvent: output.event, signal })
    return await generationModel(source, executable, output)
  } finally {
    await source.checkpoint.close()
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
