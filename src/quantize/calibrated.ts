// Jobs of a method that quantises block by block (scope `block`): each takes one finished tensor out of the block session.
import type { Backend } from '../backends/types.ts'
import { ActivationPool, DEFAULT_MEMORY_BYTES } from '../calibrate/activations.ts'
import { type CalibrationIds, sequenceBatches } from '../calibrate/batches.ts'
import { PieceRunner } from '../calibrate/runner.ts'
import { BlockSession } from '../calibrate/session.ts'
import type { OutputStore } from '../checkpoint/types.ts'
import type { CalibrateJob, StoredResults } from '../convert/plan.ts'
import { type FloatDType, isFloat } from '../core/dtypes.ts'
import { BugError } from '../core/errors.ts'
import type { WorkOptions } from '../core/events.ts'
import { blockParameters } from '../graph/cut.ts'
import { type BlockTensor, blockMethod } from '../methods/calibration.ts'
import type { Method, NamedTensor, QuantizationPlan, QuantizerKernels, TensorInfo } from '../methods/types.ts'
import { type ModelSource, readFloatWeight } from '../models/source.ts'
import { castWith } from '../weights/decode-kernel.ts'
import { denseWeight, type QuantizedWeight } from '../weights/weight.ts'
import { castFloats } from './jobs.ts'

/** What calibration runs on. */
export interface CalibrationSetup {
  readonly ids: CalibrationIds
  readonly backend: Backend
  readonly threads: number
  /** Memory for recorded values; what is more goes to the output's scratch files. */
  readonly memoryBytes?: number
}

export interface CalibratedOptions extends WorkOptions {
  readonly kernels?: QuantizerKernels
  /** Floats are cast to it first. */
  readonly dtype?: FloatDType
  readonly calibration?: CalibrationSetup
  warn?(message: string): void
}

/** The session, which begins with the engine's run, and the jobs that ask it. */
export interface Calibrated {
  /** One for each tensor that the session gives, in the order in which it does. */
  readonly jobs: ReadonlyMap<string, CalibrateJob>
  begin(results: StoredResults, output: OutputStore): void
  end(): Promise<void>
}

/** What is to be done, as planned. */
export interface CalibratedWork {
  readonly source: ModelSource
  readonly infos: readonly TensorInfo[]
  readonly method: Method
  readonly config: unknown
  readonly plan: QuantizationPlan<unknown>
  readonly options: CalibratedOptions
}

export function calibratedJobs(work: CalibratedWork): Calibrated {
  const { source, method, options } = work
  let session: BlockSession<unknown, unknown> | undefined
  const items = itemsByPath(work)
  const jobs = new Map<string, CalibrateJob>()
  for (const [path, item] of items) {
    const { info, step } = item
    const { dtype = info.dtype } = options
    const adjusted = { name: info.name, dtype: adjustedDtype(item, options), shape: info.shape }
    jobs.set(info.name, {
      action: 'calibrate',
      name: info.name,
      inputBytes: source.checkpoint.tensors.get(info.name)!.byteLength,
      outputs: step.action === 'quantize' ? method.stored.outputs?.({ ...info, dtype }, step.settings) : [adjusted],
      run: async () => stored(await session!.take(path), item, method, options),
    })
  }
  return {
    jobs,
    begin: (results, output) => {
      session = openSession(work, items, results, output)
    },
    end: async () => session?.dispose(),
  }
}

type Step = Exclude<QuantizationPlan<unknown>['tensors'][number], { action: 'keep' }>

interface Item {
  readonly info: TensorInfo
  readonly step: Step
}

/** What the session gives, by path, in the order of the blocks. */
function itemsByPath({ source, infos, plan }: CalibratedWork): ReadonlyMap<string, Item> {
  const planned = new Map<string, Item>()
  infos.forEach((info, i) => {
    const step = plan.tensors[i]
    if (info.path !== undefined && step.action !== 'keep') planned.set(info.path, { info, step })
  })
  const items = new Map<string, Item>()
  for (const path of blockParameters(source.graph)) {
    const item = planned.get(path)
    if (item) items.set(path, item)
  }
  return items
}

function adjustedDtype({ info, step }: Item, { dtype }: CalibratedOptions): string {
  return (step.action === 'adjust' ? step.dtype : undefined) ?? dtype ?? info.dtype
}

/** The tensors of the file that a finished weight becomes. */
async function stored(
  weight: QuantizedWeight,
  item: Item,
  method: Method,
  options: CalibratedOptions,
): Promise<readonly NamedTensor[]> {
  const { info, step } = item
  if (step.action === 'quantize') return method.stored.write(info.name, weight, step.settings, options.kernels)
  const dtype = adjustedDtype(item, options)
  const { values } = weight.parts
  if (!isFloat(dtype) || values.dtype === dtype) return [{ name: info.name, tensor: values }]
  return [{ name: info.name, tensor: await castWith(options.kernels, info.name, values, dtype) }]
}

/** A finished weight, out of the tensors of the file that it became. */
async function restored(
  { info, step }: Item,
  { method, config }: CalibratedWork,
  tensors: readonly NamedTensor[],
): Promise<QuantizedWeight> {
  const byName = new Map(tensors.map(({ name, tensor }) => [name, tensor]))
  if (step.action === 'adjust') return denseWeight(byName.get(info.name)!)
  return method.stored.read(info.name, info.shape, {
    config,
    has: (name) => byName.has(name),
    dtypeOf: (name) => byName.get(name)?.dtype,
    shapeOf: (name) => byName.get(name)?.shape,
    read: async (name) => byName.get(name)!,
    warn: () => {},
  })
}

function openSession(
  work: CalibratedWork,
  items: ReadonlyMap<string, Item>,
  results: StoredResults,
  output: OutputStore,
): BlockSession<unknown, unknown> {
  const { source, method, config, options } = work
  const { calibration, kernels, signal, onEvent, warn = () => {} } = options
  const block = blockMethod(method, config)
  if (!calibration || !block) throw new BugError(`${method.name} cannot calibrate: it was given no data`)
  const { backend, threads, memoryBytes = DEFAULT_MEMORY_BYTES } = calibration
  const pool = new ActivationPool(memoryBytes, output.scratch)
  const batches = sequenceBatches(calibration.ids, block.batchRows)
  const runner = new PieceRunner({ backend, threads, batches, pool, signal })
  const names = new Map(source.parameters.map((p) => [p.parameter.path, p.name]))
  const tensors = new Map<string, BlockTensor<unknown>>()
  for (const [path, { info, step }] of items) {
    const settings = step.action === 'quantize' ? step.settings : undefined
    tensors.set(path, { path, name: info.name, settings })
  }
  const model = {
    graph: source.graph,
    tensors,
    load: async (path: string) => {
      const name = names.get(path)!
      return castFloats(name, await readFloatWeight(source, name), options)
    },
    finished: async (path: string) => {
      const item = items.get(path)!
      const written = await results.read(item.info.name)
      return written && restored(item, work, written)
    },
  }
  return new BlockSession(model, block, config, { runner, kernels, warn, onEvent, signal })
}
