// The flags of calibration, for the commands that need data.
import type { CalibrationRequest } from '../api/calibration.ts'
import { tokenizerOf } from '../api/tokenizer.ts'
import { UsageError } from '../core/errors.ts'
import { blockMethod } from '../methods/calibration.ts'
import type { Method } from '../methods/types.ts'
import type { ModelSource } from '../models/source.ts'
import { byteSize, wholeNumber } from './options.ts'
import type { Output } from './output.ts'
import { CALIBRATION_CHATS } from './paths.ts'

export const CALIBRATION_OPTIONS = [
  {
    flags: '--calibration <file>',
    description: 'data for AWQ, AQLM, activations of Quanto: .txt, .json, .jsonl or .parquet',
  },
  {
    flags: '--calibration-length <n>',
    description: 'tokens of a block (default 512)',
    parse: wholeNumber('calibration-length', 1),
  },
  {
    flags: '--calibration-samples <n>',
    description: 'samples used at most',
    parse: wholeNumber('calibration-samples', 1),
  },
  { flags: '--truncate', description: 'cut long samples instead of leaving them out (AWQ)' },
  {
    flags: '--memory <size>',
    description: 'memory for recorded values, such as 4GB; more goes to disk',
    parse: byteSize('memory'),
  },
] as const

/** What the flags say; without `--calibration` the chats that come with fewbit, where the model can read them. */
export async function calibrationRequest(
  source: ModelSource,
  method: Method,
  config: unknown,
  options: Readonly<Record<string, unknown>>,
  output: Output,
): Promise<CalibrationRequest | undefined> {
  const given = ['calibration', 'calibrationLength', 'calibrationSamples', 'truncate', 'memory'].filter(
    (name) => options[name] !== undefined,
  )
  if (!blockMethod(method, config)) {
    if (given.length === 0) return undefined
    throw new UsageError(`${method.name} uses no calibration data${method.block ? ' with these settings' : ''}`, {
      flags: given,
      hint: method.block ? `docs/methods/${method.name}.md` : 'fewbit methods',
    })
  }
  return {
    file:
      options.calibration === undefined
        ? await embeddedChats(source, method.name, output)
        : String(options.calibration),
    length: options.calibrationLength as number | undefined,
    samples: options.calibrationSamples as number | undefined,
    truncate: Boolean(options.truncate),
    memoryBytes: options.memory as number | undefined,
  }
}

/** The chats that come with fewbit, for a model that can read them; says so. `user` is what needs data. */
export async function embeddedChats(source: ModelSource, user: string, output: Output): Promise<string> {
  const tokenizer = await tokenizerOf(source.checkpoint.files).catch(() => undefined)
  if (tokenizer?.chatTemplate === undefined)
    throw new UsageError(`--calibration is missing: ${user} needs data, and this model has no chat template`, {
      flag: 'calibration',
      hint: '--calibration FILE (.txt, .json, .jsonl or .parquet)',
    })
  output.event({
    event: 'warning',
    message:
      "no --calibration: the chats that come with fewbit (children's stories) are used; texts like those the model is for give better results",
  })
  return CALIBRATION_CHATS
}
