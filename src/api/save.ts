// savePretrained: the bytes that the reference would write. An unchanged model is copied, one that was quantised while loading is
// quantised into the output by the streaming engine, a float model that was cast or restored is written by it.
import type { Checkpoint, OutputStore } from '../checkpoint/types.ts'
import type { FloatDType } from '../core/dtypes.ts'
import type { Listener } from '../core/events.ts'
import type { QuantizerKernels } from '../core/kernels.ts'
import type { QuantizationConfig } from '../methods/configs.ts'
import type { ModelSource } from '../models/source.ts'
import { openPath } from './location.ts'

export interface SaveOptions {
  /** Replaces what is there. Default false. */
  readonly force?: boolean
  readonly onEvent?: Listener
  readonly signal?: AbortSignal
}

/** Copies a model that nobody changed. */
export async function copyModel(checkpoint: Checkpoint, output: OutputStore, options: SaveOptions): Promise<void> {
  const { saveUnchanged } = await import('../convert/save.ts')
  await saveUnchanged(checkpoint, output, options)
}

/** Quantises a float source into the output. */
export async function quantizeInto(
  source: ModelSource,
  config: QuantizationConfig,
  output: OutputStore,
  options: SaveOptions & { readonly kernels?: QuantizerKernels; readonly dtype?: FloatDType },
): Promise<void> {
  const { quantizeModel } = await import('../quantize/quantize.ts')
  const { method } = config
  const parsed = method.loadFiles ? await method.loadFiles(config.parse(), openPath) : config.parse()
  await quantizeModel(source, method, parsed, output, options)
}

/** Writes a float source, cast to `dtype` where one is given. */
export async function writeFloatInto(
  source: ModelSource,
  output: OutputStore,
  options: SaveOptions & { readonly dtype?: FloatDType },
): Promise<void> {
  const { writeFloat } = await import('../quantize/write-float.ts')
  await writeFloat(source, output, options)
}
