// A quantised model seen as the float model that its method restores: each weight is decoded when it is read, in the method's own
// arithmetic, and rounded to the model's dtype. GGUF files get the names of a model folder.
import type { Checkpoint, StoredTensor } from '../checkpoint/types.ts'
import { fromGraph, rowOrder, storedShape } from '../convert/ops.ts'
import { DTYPE_BYTES, elementCount, type FloatDType, isFloat } from '../core/dtypes.ts'
import { fromFloat32 } from '../core/half.ts'
import type { JsonObject } from '../core/json.ts'
import type { QuantizerKernels } from '../core/kernels.ts'
import { decodeWith } from '../weights/decode-kernel.ts'
import { decode, denseWeight, type QuantizedWeight } from '../weights/weight.ts'
import { withDtype } from './cast.ts'
import { type Origin, viewReader } from './computed.ts'
import { folderFiles } from './gguf/folder.ts'
import { withoutMarkers } from './quantization-config.ts'
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
  const { checkpoint, parameters, method, methodConfig } = source
  const origins = new Map<string, Origin>()
  const tensors = new Map<string, StoredTensor>()
  const anyFile = [...checkpoint.tensors.values()][0]?.file ?? ''
  parameters.forEach(({ parameter, names, name, op, quantized }, index) => {
    const stored = checkpoint.tensors.get(name)
    const to = keepsVectors && !quantized && stored && isFloat(stored.dtype) ? stored.dtype : dtype
    const shape = storedShape(names.huggingFaceOp, parameter.shape)
    const byteLength = elementCount(shape) * DTYPE_BYTES[to]
    // The file that holds it, or another of the model where it is stored in parts: it identifies the source.
    const file = stored?.file ?? anyFile
    tensors.set(names.huggingFace, { name: names.huggingFace, dtype: to, shape, file, offset: 0, byteLength })
    if (stored && !quantized && !op && !names.huggingFaceOp && stored.dtype === to) {
      origins.set(names.huggingFace, stored)
      return
    }
    if (stored && !quantized && op?.kind === 'permuteRope' && !names.huggingFaceOp && stored.dtype === to) {
      origins.set(names.huggingFace, { stored, order: rowOrder(op, shape[0], true) })
      return
    }
    origins.set(names.huggingFace, async () => {
      const weight = await source.load(index, kernels)
      const asStored = (data: Uint8Array) =>
        fromGraph(names.huggingFaceOp, denseWeight({ dtype: to, shape: parameter.shape, data })).parts.values.data
      if (weight.scheme.kind === 'dense' && weight.scheme.dtype === to) return asStored(weight.parts.values.data)
      const arithmetic = weight.scheme.kind === 'dense' ? undefined : method?.restoreDtype?.(weight, methodConfig)
      return asStored(await restoredBytes(weight, to, arithmetic && isFloat(arithmetic) ? arithmetic : 'F32', kernels))
    })
  })
  return {
    ...checkpoint,
    files: withoutMarkers(checkpoint.files),
    format: 'safetensors',
    tensors,
    metadata: new Map([['format', 'pt']]),
    read: viewReader(checkpoint.read, ({ name }) => origins.get(name)!),
  }
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
