// Generation: a prefill, then one step a token, for one prompt as a stream or for several at once. Greedy or sampled; beams are in beam.ts.
import { ConfigError } from '../core/errors.ts'
import { beamSearch } from './beam.ts'
import { type GenerationConfig, resolveSettings } from './config.ts'
import { type Limit, limitOf } from './limits.ts'
import { processorsOf } from './processors.ts'
import { anySeed, randomFrom } from './random.ts'
import { argmax, probabilities, survivors } from './select.ts'
import { Sequences } from './sequences.ts'
import { stopCondition } from './stop-strings.ts'
import type {
  FinishReason,
  GeneratedSequence,
  GenerateOptions,
  GenerationModel,
  Processor,
  StreamPiece,
} from './types.ts'

/** One sequence while it grows. */
interface Row {
  readonly slot: number
  readonly ids: number[]
  readonly promptLength: number
  readonly limit: Limit
  readonly processors: readonly Processor[]
  readonly random: () => number
  finish?: FinishReason
}

/** An id drawn from the scores' probabilities. */
export function sample(scores: Float32Array, random: () => number): number {
  const ids = survivors(scores)
  const chance = probabilities(scores, ids)
  let left = random()
  for (let i = 0; i < ids.length - 1; i++) {
    left -= chance[i]
    if (left < 0) return ids[i]
  }
  return ids[ids.length - 1]
}

/** Rows of a batch. As in the reference, `maxLength` and `minLength` count the longest prompt of the batch. */
function makeRows(
  model: GenerationModel,
  prompts: readonly (readonly number[])[],
  config: GenerationConfig,
  seed: number,
): Row[] {
  const batchLength = Math.max(...prompts.map((p) => p.length))
  const copies = config.numReturnSequences
  return prompts.flatMap((prompt, p) => {
    const promptLength = prompt.length
    const limit = limitOf(config, promptLength, batchLength, model.contextLength)
    const minLength = config.minLength ? config.minLength - (batchLength - promptLength) : undefined
    const processors = processorsOf({ ...config, minLength }, { promptLength, maxLength: limit.length })
    return Array.from({ length: copies }, (_, copy) => {
      const slot = p * copies + copy
      return { slot, ids: [...prompt], promptLength, limit, processors, random: randomFrom(seed, slot) }
    })
  })
}

/** Grows the rows until all are finished; yields after each step the rows that grew. */
async function* grow(model: GenerationModel, rows: readonly Row[], config: GenerationConfig, options: GenerateOptions) {
  const sequences = options.sequences ?? new Sequences(model.executable, model.recomputeFrom)
  const stops = stopCondition(config.stops, model.tokenizer)
  for (let open = [...rows]; open.length > 0; open = open.filter((row) => !row.finish)) {
    options.signal?.throwIfAborted()
    const scores = await sequences.next(open)
    open.forEach((row, i) => {
      for (const processor of row.processors) processor.apply(row.ids, scores[i])
      const id = config.doSample ? sample(scores[i], row.random) : argmax(scores[i])
      row.ids.push(id)
      if (config.eosIds.includes(id)) row.finish = 'eos'
      else if (stops(row.ids)) row.finish = 'stop'
      else if (row.ids.length >= row.limit.length) row.finish = row.limit.finish
      if (row.finish && !options.sequences) sequences.release(row.slot)
    })
    yield open
  }
}

/** Generates after each prompt; `numReturnSequences` results a prompt, in order. Throws ConfigError. */
export async function generate(
  model: GenerationModel,
  prompts: readonly (readonly number[])[],
  options: GenerateOptions = {},
): Promise<GeneratedSequence[]> {
  if (prompts.length === 0) return []
  const config = resolveSettings(options, model.defaults)
  const seed = options.seed ?? anySeed()
  if (config.numBeams > 1) return beamSearch(model, prompts, config, options, seed)
  const rows = makeRows(model, prompts, config, seed)
  for await (const _ of grow(model, rows, config, options));
  return rows.map(({ ids, promptLength, finish }) => ({ ids, promptLength, finish: finish! }))
}

/** Generates after one prompt, piece by piece. Needs a tokenizer for texts; without one they are empty. */
export async function* stream(
  model: GenerationModel,
  prompt: readonly number[],
  options: GenerateOptions = {},
): AsyncGenerator<StreamPiece> {
  const config = resolveSettings(options, model.defaults)
  if (config.numBeams > 1 || config.numReturnSequences > 1)
    throw new ConfigError('Cannot stream several sequences: use generate for beams and numReturnSequences')
  const rows = makeRows(model, [prompt], config, options.seed ?? anySeed())
  const decoder = model.tokenizer?.decodeStream({ skipSpecialTokens: true })
  for await (const [row] of grow(model, rows, config, options)) {
    const id = row.ids[row.ids.length - 1]
    const text = row.finish === 'eos' ? '' : (decoder?.push(id) ?? '')
    const rest = row.finish ? (decoder?.flush() ?? '') : ''
    yield row.finish ? { id, text: text + rest, finish: row.finish } : { id, text }
  }
}
