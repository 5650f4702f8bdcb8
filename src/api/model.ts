// AutoModelForCausalLM: a model opened, prepared for a device, and what one does with it.
import { rowsOf } from '../backends/batch.ts'
import { openQuantizers } from '../backends/index.ts'
import type { Executable, Precision } from '../backends/types.ts'
import type { PushOptions } from '../checkpoint/node/hub-push.ts'
import { openCheckpoint } from '../checkpoint/open.ts'
import type { OutputStore } from '../checkpoint/types.ts'
import { ConfigError } from '../core/errors.ts'
import type { Listener } from '../core/events.ts'
import type { JsonObject } from '../core/json.ts'
import type { GenerationSettings } from '../generate/config.ts'
import type { GeneratedSequence, GenerateOptions, GenerationModel, StreamPiece } from '../generate/types.ts'
import { dequantizedSource } from '../models/dequantized.ts'
import type { ModelConfig } from '../models/model-config.ts'
import type { ModelSource } from '../models/source.ts'
import type { Tokenizer } from '../text/types.ts'
import { defaultThreads, filesAt, type ModelLocation, type OutputLocation, outputAt } from './location.ts'
import {
  floatDtype,
  generationDefaults,
  type OpenedModel,
  type OpenOptions,
  openModel,
  withQuantization,
} from './open.ts'
import { prepareModel, recomputeLength } from './prepare.ts'
import { copyModel, quantizeInto, type SaveOptions, writeFloatInto } from './save.ts'
import { tokenizerOf } from './tokenizer.ts'

export interface LoadOptions extends OpenOptions {
  /** `cpu` (default), `wasm` or `reference`. */
  readonly device?: string
  /** Default: what the process may use, at most 16. Results never depend on it. */
  readonly threads?: number
  /** Restores the floats of a quantised model while loading, as `dequantize()` does. */
  readonly dequantize?: boolean
  /** Activations stay as precise as float32 in generation too; `logits` always is. */
  readonly exact?: boolean
  readonly onEvent?: Listener
  readonly signal?: AbortSignal
}

/** A model ready to run. */
export class CausalLM {
  /** config.json, lossless. */
  readonly configJson: JsonObject
  readonly config: ModelConfig
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
    const executable = await prepareModel(source, { device, threads, precision, onEvent, signal })
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
    return {
      executable,
      contextLength: this.config.maxPositions,
      defaults: this.generationConfig,
      tokenizer: this.tokenizer,
      recomputeFrom: recomputeLength(this.config),
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
    this.tokenizer = await tokenizerOf(await filesAt(this.location))
    return this.tokenizer
  }

  /**
   * Writes the model: unchanged, its own bytes; quantised while loading, what the method's reference would write; a `.gguf` path (or a
   * folder, as one `.gguf` in it) for GGUF. Throws FileError where something is there and `force` is not set.
   */
  async savePretrained(location: OutputLocation, options: SaveOptions = {}): Promise<void> {
    const { quantizationConfig, dequantize } = this.options
    const kernels = await kernelsFor(this.options)
    const source = dequantize ? (await open(this.location, this.options)).source : await openModel(this.location)
    try {
      const dtype = this.options.dtype === undefined ? undefined : floatDtype(this.options.dtype)
      const quantizes = quantizationConfig !== undefined && !source.method && !dequantize
      const container = quantizes ? quantizationConfig.method.container : source.checkpoint.format
      const output = await outputAt(location, options.force ?? false, container)
      if (quantizes) await quantizeInto(source, quantizationConfig, output, { ...options, kernels, dtype })
      else if (dequantize || (dtype && !source.method)) await writeFloatInto(source, output, { ...options, dtype })
      else await this.copy(output, options)
    } finally {
      await source.checkpoint.close()
    }
  }

  /** Saves the model and uploads it to the hub as `owner/name`; the URL of the commit. Throws FileError. */
  async pushToHub(id: string, options: PushOptions = {}): Promise<string> {
    const { temporaryFolder } = await import('../checkpoint/node/files.ts')
    const { pushToHub } = await import('../checkpoint/node/hub-push.ts')
    const folder = await temporaryFolder()
    try {
      await this.savePretrained(`${folder.path}/model`, { onEvent: this.options.onEvent, signal: options.signal })
      return await pushToHub(`${folder.path}/model`, id, options)
    } finally {
      await folder.remove()
    }
  }

  /** The checkpoint as it lies there, untranslated. */
  private async copy(output: OutputStore, options: SaveOptions): Promise<void> {
    const checkpoint = await openCheckpoint(await filesAt(this.location))
    try {
      await copyModel(checkpoint, output, options)
    } finally {
      await checkpoint.close()
    }
  }

  /** The float model that the method restores, as a model of its own; this one stays as it is. */
  async dequantize(): Promise<CausalLM> {
    return CausalLM.load(this.location, { ...this.options, dequantize: true })
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

function kernelsFor({ device = 'cpu', threads = defaultThreads(), signal }: LoadOptions) {
  return openQuantizers(device, { threads, signal })
}

/** The source as the options want it: cast, quantised while loading, or restored to floats. */
async function open(location: ModelLocation, options: LoadOptions): Promise<OpenedModel> {
  const { quantizationConfig, dtype, dequantize } = options
  const stored = await openModel(location, {
    dtype: dequantize ? undefined : dtype,
    onEvent: options.onEvent,
    signal: options.signal,
  })
  try {
    const opened = quantizationConfig
      ? await withQuantization(stored, quantizationConfig)
      : { source: stored, warnings: stored.warnings }
    if (!dequantize) return opened
    const source = await dequantizedSource(opened.source, {
      dtype: dtype === undefined ? undefined : floatDtype(dtype),
      kernels: await kernelsFor(options),
    })
    return { ...opened, source }
  } catch (e) {
    await stored.checkpoint.close()
    throw e
  }
}
