// The verb: a float model in, a quantised one out, in the container of the method. Planned whole, then run by the engine of convert/.
import type { GgufValue } from '../checkpoint/gguf/metadata.ts'
import { ggufMetadata } from '../checkpoint/gguf/open.ts'
import { withoutSplit } from '../checkpoint/gguf/split.ts'
import type { Checkpoint, OutputStore, StoredTensor } from '../checkpoint/types.ts'
import { convert, workKey } from '../convert/engine.ts'
import { copyOtherFiles, writeConfig, writeText } from '../convert/files.ts'
import { GgufSink } from '../convert/gguf-sink.ts'
import { type Job, outputsOf } from '../convert/plan.ts'
import { SafetensorsSink, SpooledSafetensorsSink } from '../convert/safetensors-sink.ts'
import { GGUF_FILE } from '../convert/save.ts'
import type { TensorSink } from '../convert/sink.ts'
import { TorchSink } from '../convert/torch-sink.ts'
import { elementCount, type FloatDType, torchName } from '../core/dtypes.ts'
import { UnsupportedError } from '../core/errors.ts'
import type { WorkOptions } from '../core/events.ts'
import type { JsonObject } from '../core/json.ts'
import { VERSION } from '../core/version.ts'
import { blockMethod } from '../methods/calibration.ts'
import type { Method, QuantizationPlan, QuantizerKernels, TensorInfo } from '../methods/types.ts'
import { withDtype } from '../models/cast.ts'
import { ggufTokenizerOf } from '../models/gguf/tokenizer.ts'
import { ggufView } from '../models/gguf/view.ts'
import { markerFiles } from '../models/quantization-config.ts'
import { isTransposed, type ModelSource, modelDtype, modelInfo, tensorInfos } from '../models/source.ts'
import { untiedFor } from '../models/untied.ts'
import { type Calibrated, type CalibrationSetup, calibratedJobs } from './calibrated.ts'
import { quantizeJobs } from './jobs.ts'

export interface QuantizeResult {
  /** What opens the result: the final path, or the first of its files. */
  readonly out: string
  /** Bytes of the files that hold the tensors. */
  readonly sizeBytes: number
  readonly bitsPerWeight: number
  /** Tensors that were quantised. */
  readonly quantized: number
  /** Tensors that stay as they were, with the reason. */
  readonly skipped: readonly { name: string; reason: string }[]
  readonly warnings: readonly string[]
  /** Tensors taken from an interrupted run. */
  readonly resumed: number
  readonly elapsedMs: number
}

export interface QuantizeOptions extends WorkOptions {
  readonly kernels?: QuantizerKernels
  /** `--dtype`: floats are cast to it first, and config.json says so. */
  readonly dtype?: FloatDType
  readonly maxShardBytes?: number
  /** Receives what a method says of one tensor while it is quantised. */
  warn?(message: string): void
  /** The tokenizer's key-values, for a GGUF file made from a model folder. Default: made from the folder's tokenizer. */
  readonly ggufTokenizer?: ReadonlyMap<string, GgufValue>
  /** `--pre`: overrides the look-up of `tokenizer.ggml.pre`. */
  readonly pre?: string
  /** Data and device of a method that calibrates; required to run it, not to plan it. */
  readonly calibration?: CalibrationSetup
  /** Changes the GGUF view of a model folder before it is planned. */
  adaptView?(view: Checkpoint): Promise<Checkpoint>
}

/** What will be done, before a byte is read: printed by `explain`, run by quantizeModel. */
export interface QuantizeWork {
  readonly plan: QuantizationPlan<unknown>
  readonly infos: readonly TensorInfo[]
  readonly jobs: readonly Job[]
  readonly warnings: readonly string[]
  /** The session of a method that works block by block. */
  readonly calibrated?: Calibrated
  sink(output: OutputStore): TensorSink
  /** Files beside the tensors. */
  finish(output: OutputStore): Promise<void>
}

/** Plans the work. Throws UnsupportedError where source and method do not fit, ConfigError where the method cannot meet its config. */
export async function planQuantize(
  source: ModelSource,
  method: Method,
  config: unknown,
  options: QuantizeOptions = {},
): Promise<QuantizeWork> {
  await refuseQuantized(source, method)
  return method.container === 'gguf'
    ? planGguf(source, method, config, options)
    : planSafetensors(source, method, config, options)
}

/** Quantises `source` with `method` into `output`; what an interrupted run of the same work has done is not done again. */
export async function quantizeModel(
  source: ModelSource,
  method: Method,
  config: unknown,
  output: OutputStore,
  options: QuantizeOptions = {},
): Promise<QuantizeResult> {
  const started = performance.now()
  const said: string[] = []
  const warn = (message: string): void => {
    said.push(message)
    options.onEvent?.({ event: 'warning', message })
  }
  const work = await planQuantize(source, method, config, { ...options, warn })
  const { infos, plan, jobs } = work
  for (const message of work.warnings) options.onEvent?.({ event: 'warning', message })
  const key = await sourceKey(source.checkpoint, [
    VERSION,
    method.name,
    plan.storedConfig,
    method.floatDtype ?? options.dtype,
    options.maxShardBytes,
    method.fingerprint?.(config),
    options.calibration && (await idsHash(options.calibration)),
    blockMethod(method, config)?.fingerprint?.(config),
    jobs.map((job) => [job.name, job.action, outputsOf(job)]),
  ])
  const { onEvent, signal } = options
  const sink = work.sink(output)
  for (const file of sink.files ?? []) await output.assertFree?.(file)
  const result = await convert(jobs, sink, output, {
    name: 'quantize',
    key,
    // Blocks take minutes where bytes take nothing: their own progress says more.
    onEvent: work.calibrated ? (event) => event.event !== 'progress' && onEvent?.(event) : onEvent,
    signal,
    begin: (results) => work.calibrated?.begin(results, output),
    finish: () => work.finish(output),
  }).finally(() => work.calibrated?.end())
  const weights = infos.reduce((sum, t) => sum + elementCount(t.shape), 0)
  return {
    out: openedBy(output, sink),
    sizeBytes: result.sizeBytes,
    bitsPerWeight: (result.tensorBytes * 8) / weights,
    quantized: plan.tensors.filter((t) => t.action === 'quantize').length,
    skipped: infos.flatMap(({ name }, i) => {
      const step = plan.tensors[i]
      return step.action !== 'quantize' && step.reason ? [{ name, reason: step.reason }] : []
    }),
    warnings: [...work.warnings, ...said],
    resumed: result.resumed,
    elapsedMs: performance.now() - started,
  }
}

/** The path that opens the result: the output's, or the first of the files that it was split into. */
function openedBy({ name, single }: OutputStore, { files }: TensorSink): string {
  return single && files ? name.slice(0, name.length - single.length) + files[0] : name
}

/** The calibration data decides the result. */
async function idsHash({ ids }: CalibrationSetup): Promise<string> {
  return workKey([ids.length, ids.blocks.map((block) => [...block])])
}

async function refuseQuantized(source: ModelSource, method: Method): Promise<void> {
  const { checkpoint } = source
  const { name } = checkpoint.files
  if (checkpoint.format === 'gguf') {
    if (method.container === 'gguf') return // GGUF to GGUF follows the method's own rule (--allow-requantize)
    throw new UnsupportedError(`Cannot quantise "${name}" with ${method.name}: it is a GGUF file`, {
      file: name,
      method: method.name,
      hint: `start from the model folder in Hugging Face form, or use --method gguf`,
    })
  }
  const found = source.method?.name
  if (found)
    throw new UnsupportedError(`Cannot quantise "${name}": it is already quantised with ${found}`, {
      file: name,
      method: found,
      hint: 'start from the float original: quantising twice loses quality',
    })
}

async function planSafetensors(
  given: ModelSource,
  method: Method,
  config: unknown,
  options: QuantizeOptions,
): Promise<QuantizeWork> {
  const source = await untiedFor(given, method, config)
  const { checkpoint } = source
  const { infos } = tensorInfos(source)
  const plan = method.plan(infos, modelInfo(source), config)
  const { floatDtype } = method
  const dtype = floatDtype ?? options.dtype
  const calibrated =
    blockMethod(method, config) &&
    calibratedJobs({ source, infos, method, config, plan, options: { ...options, dtype } })
  const jobs = quantizeJobs(checkpoint, infos, method, plan, {
    ...options,
    dtype,
    calibrated: calibrated?.jobs,
    isTransposed: (name) => isTransposed(source, name),
  })
  const outputs = jobs.map(outputsOf)
  const aliases = plan.aliases ?? new Map()
  const sinkOptions = {
    metadata: new Map([...aliases, ['format', 'pt']]),
    maxShardBytes: options.maxShardBytes,
    parameters: infos.reduce((sum, t) => sum + elementCount(t.shape), 0),
  }
  const known = outputs.every((o) => o !== undefined) ? outputs.flat() : undefined
  const isTorchFile = known !== undefined && (method.torchFile?.(config) ?? false)
  return {
    plan,
    infos,
    jobs: calibrated ? inOrder(jobs, calibrated) : jobs,
    calibrated,
    warnings: [...source.warnings, ...dtypeWarnings(source, method, options), ...plan.warnings],
    sink: (output) => {
      if (output.single !== undefined && isTorchFile) return new TorchSink(output, output.single, known, aliases)
      if (output.single !== undefined) throw noTorchFile(output, method)
      return known ? new SafetensorsSink(output, known, sinkOptions) : new SpooledSafetensorsSink(output, sinkOptions)
    },
    finish: async (output) => {
      if (output.single !== undefined) return // weights alone: config and tokenizer are those of the float model
      await writeConfig(output, editedConfig(source.configJson, plan.storedConfig, dtype))
      if (!source.sideFiles) await copyOtherFiles(checkpoint.files, output, markerFiles())
      for (const [name, text] of [...(source.sideFiles ?? []), ...(plan.files ?? [])])
        await writeText(output, name, text)
    },
  }
}

function noTorchFile({ name, single }: OutputStore, method: Method): UnsupportedError {
  return new UnsupportedError(`Cannot write "${name}": such a model is kept in a folder, not in a file of torch.save`, {
    file: single,
    method: method.name,
    hint: 'name a folder; llm-awq alone keeps one file: --method awq --type llm-awq -o OUT.pt',
  })
}

/** What a method that settles the model's dtype changes. */
function dtypeWarnings(source: ModelSource, { name, floatDtype }: Method, options: QuantizeOptions): string[] {
  if (!floatDtype) return []
  const given = modelDtype(source.configJson, source.checkpoint)
  const made = `${name} makes ${torchName(floatDtype)} models`
  if (options.dtype && options.dtype !== floatDtype)
    return [`${made}: the dtype ${torchName(options.dtype)} is not followed`]
  return given === floatDtype ? [] : [`${made}: the floats of this ${torchName(given)} model are cast`]
}

/** What needs no data first, then block by block. */
function inOrder(jobs: readonly Job[], calibrated: Calibrated): Job[] {
  const { jobs: made } = calibrated
  return [...jobs.filter((job) => !made.has(job.name)), ...made.values()]
}

/** config.json with the quantization_config added, and the dtype under the spelling that is there. */
function editedConfig(config: JsonObject, quantization: JsonObject | null, dtype: FloatDType | undefined): JsonObject {
  const edited: JsonObject = dtype ? withDtype(config, dtype) : { ...config }
  if (quantization) edited.quantization_config = quantization
  return edited
}

async function planGguf(
  source: ModelSource,
  method: Method,
  config: unknown,
  options: QuantizeOptions,
): Promise<QuantizeWork> {
  const rules = method.file!
  const isFolder = source.checkpoint.format !== 'gguf'
  const isConverters = isFolder && rules.isConverters(config)
  const pre = options.pre ?? rules.pre?.(config)
  const made = isFolder && !options.ggufTokenizer ? await ggufTokenizerOf(source, pre) : undefined
  const seen = isFolder
    ? await ggufView(source, {
        tokenizer: options.ggufTokenizer ?? made?.metadata,
        fileType: isConverters ? rules.fileType(config) : undefined,
      })
    : source.checkpoint
  const view = (await options.adaptView?.(seen)) ?? seen
  const metadata = ggufMetadata(view)
  const infos = [...view.tensors.values()].map(ggufInfo)
  const plan = method.plan(infos, modelInfo(source), config)
  const jobs = quantizeJobs(view, infos, method, plan, { ...options, dtype: undefined })
  if (!isConverters) jobs.sort(rules.order)
  const tensors = jobs.flatMap((job) => outputsOf(job)!)
  const missing = metadata.has('tokenizer.ggml.model') ? [] : ['the file has no tokenizer: llama.cpp will not run it']
  const tokenizerWarnings = made && missing.length === 0 ? made.warnings : missing
  const out = withoutSplit(isConverters ? metadata : rules.metadata(metadata, config))
  return {
    plan,
    infos,
    jobs,
    warnings: [...new Set([...source.warnings, ...view.warnings, ...plan.warnings, ...tokenizerWarnings])],
    sink: (output) => new GgufSink(output, output.single ?? GGUF_FILE, out, tensors, options.maxShardBytes),
    finish: async () => {},
  }
}

function ggufInfo({ name, shape, dtype }: StoredTensor): TensorInfo {
  const isMatrix = shape.length > 1 && !name.endsWith('_norm.weight')
  const role =
    name === 'output.weight' ? 'head' : name === 'token_embd.weight' ? 'embedding' : isMatrix ? 'linear' : 'other'
  return { name, shape, dtype, role }
}

/** Identifies the source's files (size and time of change too) together with what is made of them. */
async function sourceKey(checkpoint: Checkpoint, parts: unknown): Promise<string> {
  const tensors = [...checkpoint.tensors.values()].map((t) => [t.name, t.dtype, t.shape, t.file, t.offset])
  const files: unknown[] = []
  for (const name of new Set([...checkpoint.tensors.values()].map((t) => t.file))) {
    const file = await checkpoint.files.open(name)
    files.push([name, file.size, file.modifiedMs])
    await file.close()
  }
  return workKey([files, tensors, parts])
}
