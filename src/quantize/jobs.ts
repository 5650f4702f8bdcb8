// From a method's plan to the engine's jobs: what is quantised, what is cast, what is copied byte for byte.
import type { Checkpoint, StoredTensor } from '../checkpoint/types.ts'
import { transpose } from '../convert/ops.ts'
import type { CalibrateJob, ComputeJob, Job } from '../convert/plan.ts'
import { copyJob } from '../convert/save.ts'
import { type DType, type FloatDType, isFloat, type RawTensor, rawTensor } from '../core/dtypes.ts'
import { FileError } from '../core/errors.ts'
import type { Method, QuantizationPlan, QuantizerKernels, TensorInfo } from '../methods/types.ts'
import { castWith } from '../weights/decode-kernel.ts'

export interface JobOptions {
  readonly kernels?: QuantizerKernels
  /** Floats are cast to it first. */
  readonly dtype?: FloatDType
  /** Receives what a method says of one tensor. */
  warn?(message: string): void
  /** Jobs of the tensors that a block session gives, by name. */
  readonly calibrated?: ReadonlyMap<string, CalibrateJob>
  /** True for floats that the checkpoint holds as [K, N]: a method is given [N, K]. */
  isTransposed?(name: string): boolean
}

/** One job a tensor, in the order given. */
export function quantizeJobs<S>(
  checkpoint: Checkpoint,
  infos: readonly TensorInfo[],
  method: Method<unknown, S>,
  plan: QuantizationPlan<S>,
  options: JobOptions,
): Job[] {
  return infos.map((info, i) => {
    const made = options.calibrated?.get(info.name)
    if (made) return made
    const step = plan.tensors[i]
    if (step.action === 'quantize') return quantizeJob(checkpoint, info, method, step.settings, options)
    if (options.dtype && isFloat(info.dtype) && info.dtype !== options.dtype)
      return castJob(checkpoint, info, options.dtype, options)
    return copyJob(checkpoint, info.name)
  })
}

function stored(checkpoint: Checkpoint, name: string): StoredTensor {
  const tensor = checkpoint.tensors.get(name)
  if (tensor) return tensor
  throw new FileError(`Cannot read "${checkpoint.files.name}": tensor "${name}" is missing`, { tensor: name })
}

function quantizeJob<S>(
  checkpoint: Checkpoint,
  info: TensorInfo,
  method: Method<unknown, S>,
  settings: S,
  options: JobOptions,
): ComputeJob {
  // The method is given what the tensor is cast to.
  const given = options.dtype && isFloat(info.dtype) ? { ...info, dtype: options.dtype } : info
  const outputs = method.stored.outputs?.(given, settings)
  const transposed = options.isTransposed?.(info.name) ?? false
  const step = outputs && !transposed ? method.sliceRows?.(info, settings) : undefined
  return {
    ...loader(checkpoint, info.name, step),
    action: 'quantize',
    outputs,
    run: async (input, firstRow) => {
      const tensor = await castFloats(info.name, transposed ? transpose(input) : input, options, firstRow)
      const { kernels, warn } = options
      const given = { name: info.name, tensor, settings, kernels, firstRow, warn }
      if (method.encode) return method.encode(given)
      const weight = await method.quantize(given)
      return method.stored.write(info.name, weight, settings, kernels)
    },
  }
}

function castJob(checkpoint: Checkpoint, info: TensorInfo, dtype: FloatDType, options: JobOptions): ComputeJob {
  return {
    ...loader(checkpoint, info.name, 1),
    action: 'cast',
    outputs: [{ name: info.name, dtype, shape: stored(checkpoint, info.name).shape }],
    run: async (input, firstRow) => [
      { name: info.name, tensor: await castFloats(info.name, input, options, firstRow) },
    ],
  }
}

/** The part of a job that reads: whole, or by slices of rows where `step` is set. */
function loader(checkpoint: Checkpoint, name: string, step: number | undefined) {
  const tensor = stored(checkpoint, name)
  const { shape } = tensor
  const rows = shape.length === 0 ? 1 : shape.slice(0, -1).reduce((a, b) => a * b, 1)
  const columns = shape.at(-1) ?? 1
  const rowBytes = tensor.byteLength / rows
  const sliced = step !== undefined && rows > step && Number.isInteger(rowBytes)
  return {
    name,
    inputBytes: tensor.byteLength,
    slice: sliced ? { rows, step } : undefined,
    load: async (from: number, to: number, into?: Uint8Array): Promise<RawTensor> => {
      if (!sliced || to - from === rows)
        return raw(tensor, shape, await checkpoint.read(tensor, 0, tensor.byteLength, into))
      const data = await checkpoint.read(tensor, from * rowBytes, to * rowBytes, into)
      return raw(tensor, [to - from, columns], data)
    },
  }
}

/** A GGUF block type is no DType, but the method that is given it knows its name. */
function raw(tensor: StoredTensor, shape: readonly number[], data: Uint8Array): RawTensor {
  return rawTensor(tensor.dtype as DType, shape, data)
}

/** A float tensor, or its rows from `firstRow` on, in the dtype that `--dtype` asks for. */
export async function castFloats(
  name: string,
  tensor: RawTensor,
  { dtype, kernels }: Pick<JobOptions, 'dtype' | 'kernels'>,
  firstRow = 0,
): Promise<RawTensor> {
  if (!dtype || !isFloat(tensor.dtype) || tensor.dtype === dtype) return tensor
  return castWith(kernels, name, tensor, dtype, firstRow * (tensor.shape.at(-1) ?? 1))
}
