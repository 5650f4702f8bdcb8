// A float model in another dtype: every float tensor is cast when it is read, and config.json says so. What `--dtype` does first.
import type { Checkpoint, StoredTensor } from '../checkpoint/types.ts'
import {
  DTYPE_BYTES,
  type DType,
  elementCount,
  type FloatDType,
  isFloat,
  rawTensor,
  torchName,
} from '../core/dtypes.ts'
import { UnsupportedError } from '../core/errors.ts'
import { castTensor } from '../core/half.ts'
import type { JsonObject } from '../core/json.ts'
import { type ModelSource, modelSource } from './source.ts'

/** The model with its floats as `dtype`. Throws UnsupportedError where it is quantised or a GGUF file. */
export async function castSource(source: ModelSource, dtype: FloatDType): Promise<ModelSource> {
  const { checkpoint, configJson } = source
  if (source.method || checkpoint.format === 'gguf')
    throw new UnsupportedError(`Cannot cast "${checkpoint.files.name}" to ${torchName(dtype)}: it is no float folder`, {
      file: checkpoint.files.name,
      hint: 'leave the dtype out',
    })
  return modelSource({ ...castCheckpoint(checkpoint, dtype), config: withDtype(configJson, dtype) })
}

/** config.json with `dtype`, under the spelling that is there. */
export function withDtype(config: JsonObject, dtype: FloatDType): JsonObject {
  const key = config.torch_dtype !== undefined && config.dtype === undefined ? 'torch_dtype' : 'dtype'
  return { ...config, [key]: torchName(dtype) }
}

function castCheckpoint(checkpoint: Checkpoint, dtype: FloatDType): Checkpoint {
  const tensors = new Map<string, StoredTensor>()
  for (const tensor of checkpoint.tensors.values()) {
    const byteLength = elementCount(tensor.shape) * DTYPE_BYTES[dtype]
    tensors.set(tensor.name, isFloat(tensor.dtype) ? { ...tensor, dtype, byteLength } : tensor)
  }
  return {
    ...checkpoint,
    tensors,
    read: async (tensor, from = 0, to = tensor.byteLength) => {
      const stored = checkpoint.tensors.get(tensor.name)!
      if (!isFloat(stored.dtype) || stored.dtype === dtype) return checkpoint.read(stored, from, to)
      const width = DTYPE_BYTES[stored.dtype]
      const [first, last] = [Math.floor(from / DTYPE_BYTES[dtype]), Math.ceil(to / DTYPE_BYTES[dtype])]
      const data = await checkpoint.read(stored, first * width, last * width)
      const part = rawTensor(stored.dtype as DType, [last - first], data)
      const skip = first * DTYPE_BYTES[dtype]
      return castTensor(tensor.name, part, dtype).data.subarray(from - skip, to - skip)
    },
  }
}
