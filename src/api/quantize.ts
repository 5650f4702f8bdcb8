// From a float model to a quantised one on disk, in one call: what `fewbit quantize` does.
import { openQuantizers } from '../backends/index.ts'
import type { WorkOptions } from '../core/events.ts'
import type { QuantizationConfig } from '../methods/configs.ts'
import type { QuantizeResult } from '../quantize/quantize.ts'
import { quantizeModel } from '../quantize/quantize.ts'
import { type CalibrationRequest, calibrationFor } from './calibration.ts'
import { defaultThreads, type ModelLocation, type OutputLocation, openPath, outputAt } from './location.ts'
import { floatDtype, openModel } from './open.ts'

export interface QuantizePretrainedOptions extends WorkOptions {
  /** For methods that need data (AWQ, AQLM, activations of Quanto). */
  readonly calibration?: CalibrationRequest
  /** Casts floats first: `float32`, `float16`, `bfloat16`. */
  readonly dtype?: string
  /** `cpu` (default), `wasm` or `reference`. */
  readonly device?: string
  readonly threads?: number
  readonly maxShardBytes?: number
  /** Replaces what is there. Default false. */
  readonly force?: boolean
}

/** Quantises the model at `from` into `to`; a run that was interrupted goes on where it stopped. Throws FewbitError. */
export async function quantizePretrained(
  from: ModelLocation,
  to: OutputLocation,
  quantizationConfig: QuantizationConfig,
  options: QuantizePretrainedOptions = {},
): Promise<QuantizeResult> {
  const { device = 'cpu', threads = defaultThreads(), onEvent, signal, calibration, maxShardBytes } = options
  const { method } = quantizationConfig
  const parsed = quantizationConfig.parse()
  const config = method.loadFiles ? await method.loadFiles(parsed, openPath) : parsed
  const source = await openModel(from, options)
  try {
    return await quantizeModel(source, method, config, await outputAt(to, options.force ?? false, method.container), {
      kernels: await openQuantizers(device, { threads, signal }),
      dtype: options.dtype === undefined ? undefined : floatDtype(options.dtype),
      calibration: await calibrationFor(source, method, config, calibration, { device, threads, onEvent, signal }),
      maxShardBytes,
      onEvent,
      signal,
    })
  } finally {
    await source.checkpoint.close()
  }
}
