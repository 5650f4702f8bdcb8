// A quantised model seen as the float model that its method restores: each weight is decoded when it is read, in the method's own
// arithmetic, and rounded to the model's dtype. GGUF files get the names of a model folder.
import type { Checkpoint, StoredTensor } from '../checkpoint/types.ts'
import { fromGraph, rowOrder, storedShape } from '../convert/ops.ts'
import { DTYPE_BYTES, elementCount, type FloatDType, isFloat } from '../core/dtypes.ts'
import { fromFloat32, refuseOverflow } from '../core/half.ts'
import type { JsonObject } from '../core/json.ts'
import type { QuantizerKernels } from '../core/kernels.ts'
import { decodeWith } from '../weights/decode-kernel.ts'
import { decode, denseWeight, type QuantizedWeight } from '../weights/weight.ts'
import { withDtype } from './cast.ts'
import { folderFiles } from './gguf/folder.ts'
import type { PlannedParameter } from './parameters.ts'
import { withoutMarkers } from './quantization-config.ts'
import { type RangeReader, ViewRanges } from './ranges.ts'
import { type ModelSource, modelDtype, modelSource } from './source.ts'

export interface DequantizeOptions {
  /** Of all tensors; absent: restored weights take the model's (float32 for GGUF files), what is stored as floats keeps its own. */
  readonly dtype?: FloatDType
  /** Decode the weights; absent: the TypeScript oracle does. */
  readonly kernels?: QuantizerKernels
}

/** The float source. */
export async function dequantizedSource(source: ModelSource, options: DequantizeOptions = {}): Promise<ModelSource> {
  const { dtype } = options
  const { checkpoint, configJson } = source
  const own = checkpoint.format === 'gguf' ? 'F32' : modelDtype(configJson, checkpoint)
  const target = dtype ?? (isFloat(own) ? own : 'F32')
  const isFile = checkpoint.format === 'gguf'
  const config: JsonObject = withDtype(configJson, target)
  delete config.quantization_config
  if (isFile) config.architectures = [source.family.className]
  const float = await modelSource({
    ...restored(source, { ...options, dtype: target, keepsVectors: dtype === undefined }),
    config,
  })
  return isFile ? { ...float, sideFiles: folderFiles(checkpoint, source.config.maxPositions) } : float
}

interface Restoring {
  readonly dtype: FloatDType
  /** What is stored as floats keeps its own dtype. */
  readonly keepsVectors: boolean
  readonly kernels?: QuantizerKernels
}

function restored(source: ModelSource, { dtype, keepsVectors, kernels }: Restoring): Checkpoint {
  const { checkpoint, parameters } = source
  const ranges = new ViewRanges(checkpoint.read)
  const tensors = new Map<string, StoredTensor>()
  const anyFile = [...checkpoint.tensors.values()][0]?.file ?? ''
  for (const [index, planned] of parameters.entries()) {
    const { parameter, names, name: storedName, quantized } = planned
    const stored = checkpoint.tensors.get(storedName)
    const to = keepsVectors && !quantized && stored && isFloat(stored.dtype) ? stored.dtype : dtype
    const shape = storedShape(names.huggingFaceOp, parameter.shape)
    const byteLength = elementCount(shape) * DTYPE_BYTES[to]
    // The file that holds it, or another of the model where it is stored in parts: it identifies the source.
    const file = stored?.file ?? anyFile
    const tensor = { name: names.huggingFace, dtype: to, shape, file, offset: 0, byteLength }
    tensors.set(tensor.name, tensor)
    ranges.set(
      tensor.name,
      floatRange(ranges, source, planned, to, kernels) ??
        ranges.whole(tensor, () => restoredWeight(source, index, to, kernels)),
    )
  }
  return {
    ...checkpoint,
    files: withoutMarkers(checkpoint.files),
    format: 'safetensors',
    tensors,
    metadata: new Map([['format', 'pt']]),
    read: ranges.read,
  }
}

/** What is stored as floats, in the order of the elements but for rotary rows: any range of it alone. */
function floatRange(
  ranges: ViewRanges,
  { checkpoint }: ModelSource,
  { parameter, names, name, op, quantized }: PlannedParameter,
  to: FloatDType,
  kernels: QuantizerKernels | undefined,
): RangeReader | undefined {
  const stored = checkpoint.tensors.get(name)
  if (!stored || quantized || names.huggingFaceOp || !isFloat(stored.dtype)) return undefined
  if (op && op.kind !== 'permuteRope') return undefined
  const [rows] = parameter.shape
  const plain = ranges.stored(stored)
  const read = op ? ranges.reordered(plain, stored.byteLength / rows, rowOrder(op, rows, true)) : plain
  return stored.dtype === to ? read : ranges.cast(names.huggingFace, read, [stored.dtype, to], kernels)
}

/** All bytes of parameter `index` as the folder has it. */
async function restoredWeight(
  source: ModelSource,
  index: number,
  to: FloatDType,
  kernels: QuantizerKernels | undefined,
): Promise<Uint8Array> {
  const { parameter, names } = source.parameters[index]
  const weight = await source.load(index, kernels)
  const { scheme } = weight
  const asStored = (data: Uint8Array) =>
    fromGraph(names.huggingFaceOp, denseWeight({ dtype: to, shape: parameter.shape, data })).parts.values.data
  if (scheme.kind === 'dense' && scheme.dtype === to) return asStored(weight.parts.values.data)
  const given = scheme.kind === 'dense' ? undefined : source.method?.restoreDtype?.(weight, source.methodConfig)
  const arithmetic = given && isFloat(given) ? given : 'F32'
  const data = await restoredBytes(weight, to, arithmetic, kernels)
  if (to === 'F16')
    refuseOverflow(
      names.huggingFace,
      'its restored values',
      () => decode(weight, 0, elementCount(weight.shape), arithmetic),
      data,
    )
  return asStored(data)
}

/** The values as bytes of `to`, by the kernels where there are some; a vector is small. */
async function restoredBytes(
  weight: QuantizedWeight,
  to: FloatDType,
  arithmetic: FloatDType,
  kernels: QuantizerKernels | undefined,
): Promise<Uint8Array> {
  if (kernels && to !== 'F64' && weight.shape.length > 1)
    return (await decodeWith(kernels, weight, to, arithmetic)).data
  return fromFloat32(decode(weight, 0, elementCount(weight.shape), arithmetic), to)
}
