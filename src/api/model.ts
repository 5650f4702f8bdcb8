// AutoModelForCausalLM: a model opened, prepared for a device, and what one does with it.
import { rowsOf } from '../backends/batch.ts'
import { openBackend, openQuantizers } from '../backends/index.ts'
import type { Executable, Precision } from '../backends/types.ts'
import { ConfigError } from '../core/errors.ts'
import type { Listener } from '../core/events.ts'
import type { JsonObject } from '../core/json.ts'
import type { GenerationSettings } from '../generate/config.ts'
import type { GeneratedSequence, GenerateOptions, GenerationModel, StreamPiece } from '../generate/types.ts'
import type { ModelSource } from '../models/source.ts'
import type { DecoderConfig } from '../models/types.ts'
import type { Tokenizer } from '../text/types.ts'
import { defaultThreads, type ModelLocation } from './location.ts'
import { generationDefaults, type OpenedModel, type OpenOptions, openModel, withQuantization } from './open.ts'
import { tokenizerOf } from './tokenizer.ts'

export interface LoadOptions extends OpenOptions {
  /** `cpu` (default), `wasm` or `reference`. */
  readonly device?: string
  /** Default: what the process may use, at most 16. Results never depend on it. */
  readonly threads?: number
  /** Activations stay as precise as float32 in generation too; `logits` always is. */
  readonly exact?: boolean
  readonly onEvent?: Listener
  readonly signal?: AbortSignal
}

/** A model ready to run. */
export class CausalLM {
  /** config.json, lossless. */
  readonly configJson: JsonObject
  readonly config: DecoderConfig
  readonly generationConfig: GenerationSettings
  /** What was odd in the files, or left out. */
  readonly warnings: readonly string[]
  private readonly location: ModelLocation
  private readonly options: LoadOptions
  private readonly executables = new Map<Precision, Executable>()
  private tokenizer: Tokenizer | undefined

  private constructor(location: ModelLocation, options: LoadOptions, opened: OpenedModel, generation: Defaults) {
    this.location = location
    this.options = options
    this.configJson = opened.source.configJson
    this.config = opened.source.config
    this.generationConfig = generation.settings
    this.warnings = [...opened.warnings, ...generation.warnings]
  }

  /** Opens and prepares a model. Throws FileError, ConfigError or UnsupportedError. */
  static async load(location: ModelLocation, options: LoadOptions): Promise<CausalLM> {
    const opened = await open(location, options)
    try {
      const model = new CausalLM(location, options, opened, await generationDefaults(opened.source))
      for (const message of model.warnings) options.onEvent?.({ event: 'warning', message })
      await model.prepare(opened.source, model.generationPrecision(opened.source))
      return model
    } finally {
      await opened.source.checkpoint.close()
    }
  }

  /** Dense weights are exact either way. */
  private generationPrecision(source: ModelSource): Precision {
    return this.options.exact || !source.method ? 'exact' : 'fast'
  }

  private async prepare(source: ModelSource, precision: Precision): Promise<Executable> {
    const { device = 'cpu', threads = defaultThreads(), onEvent, signal } = this.options
    const backend = await openBackend(device)
    const kernels =
      device === 'reference' ? undefined : await openQuantizers(device === 'wasm' ? 'wasm' : 'cpu', { threads, signal })
    const executable = await backend.compile(source.graph, (index) => source.load(index, kernels), {
      precision,
      threads,
      signal,
      onParameter: (done, total) => onEvent?.({ event: 'progress', name: 'load', done, total, unit: 'tensors' }),
    })
    this.executables.set(precision, executable)
    return executable
  }

  /** The executable of a precision, prepared when it is first asked for. */
  private async executable(precision: Precision): Promise<Executable> {
    const found = this.executables.get(precision)
    if (found) return found
    const { source } = await open(this.location, this.options)
    try {
      return await this.prepare(source, precision)
    } finally {
      await source.checkpoint.close()
    }
  }

  private async generationModel(): Promise<GenerationModel> {
    const executable = this.executables.get('fast') ?? (await this.executable('exact'))
    const { rope, maxPositions } = this.config
    return {
      executable,
      contextLength: maxPositions,
      defaults: this.generationConfig,
      tokenizer: this.tokenizer,
      recomputeFrom: rope.type === 'longrope' ? rope.originalMaxPositions + 1 : undefined,
    }
  }

  /** Generates after one prompt or several; prompt and new ids together. */
  async generate(prompt: readonly number[], options?: GenerateOptions): Promise<GeneratedSequence>
  async generate(prompts: readonly (readonly number[])[], options?: GenerateOptions): Promise<GeneratedSequence[]>
  async generate(
    prompts: readonly number[] | readonly (readonly number[])[],
    options: GenerateOptions = {},
  ): Promise<GeneratedSequence | GeneratedSequence[]> {
    const single = prompts.length === 0 || typeof prompts[0] === 'number'
    const batch = (single ? [prompts] : prompts) as readonly (readonly number[])[]
    for (const ids of batch) this.checkIds(ids)
    if (options.stopStrings) await this.loadTokenizer()
    const { generate } = await import('../generate/generate.ts')
    const sequences = await generate(await this.generationModel(), batch, options)
    return single && sequences.length === 1 ? sequences[0] : sequences
  }

  /** Generates after a prompt, piece by piece. */
  async *stream(prompt: readonly number[], options: GenerateOptions = {}): AsyncGenerator<StreamPiece> {
    this.checkIds(prompt)
    await this.loadTokenizer()
    const { stream } = await import('../generate/generate.ts')
    yield* stream(await this.generationModel(), prompt, options)
  }

  /** Logits of every position, float32 [T, V], as precise as float32 whatever generation uses. */
  async logits(ids: readonly number[]): Promise<Float32Array> {
    this.checkIds(ids)
    const executable = await this.executable('exact')
    executable.truncate(0, 0)
    const logits = (await executable.run(rowsOf(ids, 0, 'all'))).slice()
    executable.truncate(0, 0)
    return logits
  }

  private checkIds(ids: readonly number[]): void {
    const { vocabSize } = this.config
    if (ids.length === 0) throw new ConfigError('Cannot run an empty prompt: it needs at least one id')
    const wrong = ids.find((id) => !Number.isInteger(id) || id < 0 || id >= vocabSize)
    if (wrong !== undefined)
      throw new ConfigError(`Cannot run id ${wrong}: the vocabulary has the ids 0 to ${vocabSize - 1}`, {
        actual: wrong,
      })
  }

  /** The tokenizer beside the model. Throws FileError where there is none. */
  async loadTokenizer(): Promise<Tokenizer> {
    if (this.tokenizer) return this.tokenizer
    const { filesAt } = await import('./location.ts')
    this.tokenizer = await tokenizerOf(await filesAt(this.location))
    return this.tokenizer
  }

  /** Bytes held for weights and caches. */
  memory(): { weightBytes: number; cacheBytes: number } {
    const all = [...this.executables.values()].map((e) => e.memory())
    const sum = (pick: (m: (typeof all)[number]) => number) => all.reduce((total, m) => total + pick(m), 0)
    return { weightBytes: sum((m) => m.weightBytes), cacheBytes: sum((m) => m.cacheBytes) }
  }

  /** Frees weights and caches at once; without it they go when the model is no longer reachable. */
  dispose(): void {
    for (const executable of this.executables.values()) executable.dispose()
    this.executables.clear()
  }
}

type Defaults = Awaited<ReturnType<typeof generationDefaults>>

async function open(location: ModelLocation, options: LoadOptions): Promise<OpenedModel> {
  const source = await openModel(location, options)
  const { quantizationConfig } = options
  if (!quantizationConfig) return { source, warnings: source.warnings }
  try {
    return await withQuantization(source, quantizationConfig)
  } catch (e) {
    await source.checkpoint.close()
    throw e
  }
}

/** As transformers' AutoModelForCausalLM. */
export const AutoModelForCausalLM = {
  async fromPretrained(location: ModelLocation, options: LoadOptions = {}): Promise<CausalLM> {
    return CausalLM.load(location, options)
  },
}
