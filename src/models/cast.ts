// A float model in another dtype: every float tensor is cast when it is read, and config.json says so. What `--dtype` does first.
import type { Checkpoint, StoredTensor } from '../checkpoint/types.ts'
import { DTYPE_BYTES, elementCount, type FloatDType, isFloat, torchName } from '../core/dtypes.ts'
import { UnsupportedError } from '../core/errors.ts'
import type { JsonObject } from '../core/json.ts'
import { ViewRanges } from './ranges.ts'
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
  const ranges = new ViewRanges(checkpoint.read)
  for (const stored of checkpoint.tensors.values()) {
    const { name, shape } = stored
    const isCast = isFloat(stored.dtype) && stored.dtype !== dtype
    tensors.set(name, isCast ? { ...stored, dtype, byteLength: elementCount(shape) * DTYPE_BYTES[dtype] } : stored)
    if (isCast) ranges.set(name, ranges.cast(name, ranges.stored(stored), [stored.dtype, dtype]))
  }
  return { ...checkpoint, tensors, read: ranges.read }
}
