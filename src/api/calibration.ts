// Calibration data for a method that needs it: the file, the model's tokenizer and the method's rules brought together.
import { openBackend } from '../backends/index.ts'
import { calibrationBlocks } from '../calibrate/blocks.ts'
import { type CalibrationFile, readCalibration } from '../calibrate/samples.ts'
import type { ByteSource } from '../checkpoint/types.ts'
import { ConfigError, FewbitError, UnsupportedError } from '../core/errors.ts'
import type { WorkOptions } from '../core/events.ts'
import { blockMethod, type CalibrationRules } from '../methods/calibration.ts'
import type { Method } from '../methods/types.ts'
import type { ModelSource } from '../models/source.ts'
import type { CalibrationSetup } from '../quantize/calibrated.ts'
import type { Tokenizer } from '../text/types.ts'
import { openPath } from './location.ts'
import { tokenizerOf } from './tokenizer.ts'

/** What a user says about calibration. */
export interface CalibrationRequest {
  /** A .txt, .json, .jsonl or .parquet file. */
  readonly file: string | ByteSource
  /** Tokens of a block. Default: the method's, at most the model's context. */
  readonly length?: number
  /** Samples that are used at most. Default: the method's. */
  readonly samples?: number
  /** Cuts longer samples instead of leaving them out, where the method leaves them out. */
  readonly truncate?: boolean
  /** Memory for recorded values; what is more goes to scratch files beside the output. */
  readonly memoryBytes?: number
}

export interface CalibrationDevice extends WorkOptions {
  readonly device: string
  readonly threads: number
}

/** Data and device for `method`; undefined where it needs none. Throws ConfigError where it does and none is given. */
export async function calibrationFor(
  source: ModelSource,
  method: Method,
  config: unknown,
  request: CalibrationRequest | undefined,
  options: CalibrationDevice,
): Promise<CalibrationSetup | undefined> {
  const block = blockMethod(method, config)
  if (!block) {
    if (!request) return undefined
    throw new ConfigError(`Calibration data was given, but ${method.name} uses none here`, {
      key: 'calibration',
      method: method.name,
    })
  }
  if (!request)
    throw new ConfigError(`Cannot quantise with ${method.name}: it needs calibration data`, {
      key: 'calibration',
      method: method.name,
      hint: '--calibration FILE (.txt, .json, .jsonl or .parquet)',
    })
  const { ids, summary } = await calibrationIds(source, request, block.data(config))
  options.onEvent?.({ event: 'step', name: summary })
  const { device, threads } = options
  return { ids, backend: await openBackend(device), threads, memoryBytes: request.memoryBytes }
}

/** The blocks of a request. */
export async function calibrationIds(source: ModelSource, request: CalibrationRequest, rules: CalibrationRules) {
  const { maxPositions, vocabSize } = source.config
  const length = request.length ?? Math.min(rules.length, maxPositions)
  return calibrationBlocks(await readCalibrationAt(request.file), await lazyTokenizer(source), {
    rules: { ...rules, length, samples: request.samples ?? rules.samples },
    contextLength: maxPositions,
    vocabSize,
    truncate: request.truncate,
  })
}

/** Reads a calibration file. Throws FileError. */
export async function readCalibrationAt(file: string | ByteSource): Promise<CalibrationFile> {
  if (typeof file !== 'string') return readCalibration(file)
  const source = await openPath(file)
  try {
    return await readCalibration(source)
  } finally {
    await source.close()
  }
}

/** The tokenizer where one is needed: files of ids do without. */
export async function lazyTokenizer({ checkpoint }: ModelSource): Promise<() => Tokenizer> {
  const found = await tokenizerOf(checkpoint.files).catch((error: unknown) => error)
  return () => {
    if (!(found instanceof Error)) return found as Tokenizer
    const hint = 'give ids instead: a .jsonl file of {"input_ids": [...]}'
    throw new UnsupportedError(`Cannot encode the calibration text: ${found.message}`, {
      cause: found,
      hint: found instanceof FewbitError ? (found.hint ?? hint) : hint,
    })
  }
}
