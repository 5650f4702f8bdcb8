// Samples -> blocks of ids of equal length, by each method's own rule of cutting and joining. Everything left out is counted.
import { ConfigError } from '../core/errors.ts'
import type { CalibrationRules } from '../methods/calibration.ts'
import { textPieces } from '../text/pieces.ts'
import type { Tokenizer } from '../text/types.ts'
import type { CalibrationIds } from './batches.ts'
import type { CalibrationFile, CalibrationSample } from './samples.ts'

export interface CalibrationOptions {
  readonly rules: CalibrationRules
  /** Tokens that the model sees at most. */
  readonly contextLength: number
  readonly vocabSize: number
  /** Longer samples are cut to the length instead of being left out (`short-samples`). */
  readonly truncate?: boolean
}

export interface CalibrationData {
  readonly ids: CalibrationIds
  /** What was used and what was not, for people. */
  readonly summary: string
}

/** Cuts and joins. Throws ConfigError where nothing is left, or an id is none of the model's. */
export function calibrationBlocks(
  file: CalibrationFile,
  tokenizer: () => Tokenizer,
  options: CalibrationOptions,
): CalibrationData {
  const { rules, contextLength } = options
  const { length } = rules
  if (!Number.isSafeInteger(length) || length < 1 || length > contextLength)
    throw new ConfigError(
      `Cannot calibrate: the length is ${length}, the model's context has 1 to ${contextLength} tokens`,
      {
        key: 'calibration_length',
        actual: length,
        expected: contextLength,
      },
    )
  const samples = encoded(file, tokenizer, rules)
  checkIds(file, samples, options.vocabSize)
  const chosen = rules.cut === 'joined' ? first(samples, rules.samples) : shortSamples(samples, options)
  const total = chosen.kept.reduce((sum, ids) => sum + ids.length, 0)
  const count = Math.floor(total / length)
  if (count === 0) throw tooShort(file, samples.length, chosen, total, length)
  const joined = new Int32Array(total)
  let at = 0
  for (const ids of chosen.kept) {
    joined.set(ids, at)
    at += ids.length
  }
  const blocks = Array.from({ length: count }, (_, b) => joined.slice(b * length, (b + 1) * length))
  return { ids: { blocks, length }, summary: describe(file.name, chosen, samples.length, count, length) }
}

interface Chosen {
  readonly kept: readonly (readonly number[])[]
  readonly tooLong: number
  readonly cut: number
}

function first(samples: readonly (readonly number[])[], limit: number | undefined): Chosen {
  return { kept: samples.filter((ids) => ids.length > 0).slice(0, limit), tooLong: 0, cut: 0 }
}

/** AutoAWQ's rule: longer samples and empty ones do not count, the first others do. */
function shortSamples(samples: readonly (readonly number[])[], { rules, truncate }: CalibrationOptions): Chosen {
  const kept: (readonly number[])[] = []
  let tooLong = 0
  let cut = 0
  for (const ids of samples) {
    if (kept.length === rules.samples) break
    if (ids.length === 0) continue
    if (ids.length <= rules.length) kept.push(ids)
    else if (truncate) {
      kept.push(ids.slice(0, rules.length))
      cut++
    } else tooLong++
  }
  return { kept, tooLong, cut }
}

function encoded(file: CalibrationFile, tokenizer: () => Tokenizer, rules: CalibrationRules): (readonly number[])[] {
  if (file.kind === 'samples') return file.samples.map((sample) => encodeSample(sample, tokenizer))
  const pieces = textPieces(file.text).map((text) => tokenizer().encode(text))
  if (pieces.length !== 1 || rules.cut === 'joined') return pieces
  // One long piece would be left out as a whole.
  const [ids] = pieces
  return Array.from({ length: Math.ceil(ids.length / rules.length) }, (_, b) =>
    ids.slice(b * rules.length, (b + 1) * rules.length),
  )
}

function encodeSample(sample: CalibrationSample, tokenizer: () => Tokenizer): readonly number[] {
  if (sample.kind === 'ids') return sample.ids
  if (sample.kind === 'chat') return tokenizer().applyChatTemplate(sample.messages)
  const text = sample.text.trim()
  return text === '' ? [] : tokenizer().encode(text)
}

function checkIds(file: CalibrationFile, samples: readonly (readonly number[])[], vocabSize: number): void {
  samples.forEach((ids, sample) => {
    const wrong = ids.find((id) => id >= vocabSize)
    if (wrong !== undefined)
      throw new ConfigError(
        `Cannot calibrate with "${file.name}": sample ${sample} has id ${wrong}, the model has 0 to ${vocabSize - 1}`,
        { file: file.name, sample, actual: wrong, hint: 'the ids belong to another tokenizer' },
      )
  })
}

function tooShort(
  file: CalibrationFile,
  samples: number,
  { kept, tooLong }: Chosen,
  tokens: number,
  length: number,
): ConfigError {
  const left = tooLong > 0 ? `, ${tooLong} longer samples left out` : ''
  return new ConfigError(
    `Cannot calibrate with "${file.name}": ${kept.length} of ${samples} samples give ${tokens} tokens${left}, a block has ${length}`,
    {
      file: file.name,
      samples,
      tooLong,
      actual: tokens,
      expected: length,
      hint: tooLong > 0 ? 'add --truncate to cut long samples' : 'use more data, or a smaller --calibration-length',
    },
  )
}

function describe(
  name: string,
  { kept, tooLong, cut }: Chosen,
  samples: number,
  blocks: number,
  length: number,
): string {
  const details = [`${kept.length} of ${samples} samples`]
  if (tooLong > 0) details.push(`${tooLong} longer than ${length} tokens left out`)
  if (cut > 0) details.push(`${cut} cut to ${length} tokens`)
  return `${name}: ${blocks} blocks of ${length} tokens from ${details.join(', ')}`
}
