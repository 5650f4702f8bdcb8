// A model folder seen as the GGUF file that llama.cpp's converter makes of it in the input's own dtype: names, order, types, rows and
// key-values. Nothing is written: a writer copies this view, and a quantiser reads from it as from any .gguf file.
import type { GgufValue } from '../../checkpoint/gguf/metadata.ts'
import { readText } from '../../checkpoint/text-file.ts'
import type { Checkpoint, StoredTensor } from '../../checkpoint/types.ts'
import { fromGraph, rowOrder, storedShape, toGraph } from '../../convert/ops.ts'
import { DTYPE_BYTES, type DType, elementCount, isFloat, type RawTensor, rawTensor } from '../../core/dtypes.ts'
import { UnsupportedError } from '../../core/errors.ts'
import { toFloat32 } from '../../core/half.ts'
import { byCodePoint, type JsonObject, parseJsonObject } from '../../core/json.ts'
import { denseWeight } from '../../weights/weight.ts'
import { ggufNameOf } from '../parameters.ts'
import { type RangeReader, ViewRanges } from '../ranges.ts'
import { type ModelSource, modelDtype, readTensor } from '../source.ts'
import type { ParameterName } from '../types.ts'
import { modelMetadata } from './metadata.ts'
import type { GeneratedTensor, GgufProfile } from './profile.ts'

/** general.file_type of a float file. */
const FILE_TYPES: Readonly<Partial<Record<DType, number>>> = { F32: 0, F16: 1, BF16: 32 }

export interface GgufViewOptions {
  /** The tokenizer's key-values, which end the metadata. */
  readonly tokenizer?: ReadonlyMap<string, GgufValue>
  /** `general.file_type`; absent: that of the model's dtype. */
  readonly fileType?: number
}

/** The view of a float model. Throws UnsupportedError where the source is quantised or a GGUF file already. */
export async function ggufView(source: ModelSource, options: GgufViewOptions = {}): Promise<Checkpoint> {
  const { checkpoint, family, config, configJson } = source
  if (source.method || checkpoint.format === 'gguf')
    throw new UnsupportedError(`Cannot see "${checkpoint.files.name}" as a GGUF file: it is no float model folder`, {
      file: checkpoint.files.name,
      hint: `fewbit convert ${checkpoint.files.name} --to float:bf16 -o FLOAT`,
    })
  const { gguf: profile } = family
  if (!profile)
    throw new UnsupportedError(
      `Cannot see "${checkpoint.files.name}" as a GGUF file: ${config.modelType} has no such form`,
      {
        file: checkpoint.files.name,
        modelType: config.modelType,
      },
    )
  const ranges = new ViewRanges(checkpoint.read)
  const tensors = viewTensors(source, profile.generated?.(config) ?? [], ranges)
  const metadata = modelMetadata({
    profile,
    config,
    configJson,
    generationConfig: await generationConfig(checkpoint),
    folder: folderName(checkpoint.files.name),
    parameters: tensors.reduce((sum, t) => sum + elementCount(t.shape), 0),
    fileType: options.fileType ?? FILE_TYPES[modelDtype(configJson, checkpoint)] ?? 0,
  })
  for (const [key, value] of options.tokenizer ?? []) metadata.set(key, value)
  return {
    format: 'gguf',
    files: checkpoint.files,
    tensors: new Map(tensors.map((t) => [t.name, t])),
    config: null,
    metadata,
    warnings: [...checkpoint.warnings, ...ownWarning(profile), ...(profile.losses?.(config) ?? [])],
    read: ranges.read,
    close: checkpoint.close,
  }
}

function ownWarning({ architecture, isOwn }: GgufProfile): string[] {
  return isOwn ? [`llama.cpp has no architecture "${architecture}": only fewbit runs the GGUF file`] : []
}

/** Generated tensors first, then those of each file by name, as the converter takes them. */
function viewTensors(source: ModelSource, generated: readonly GeneratedTensor[], ranges: ViewRanges): StoredTensor[] {
  const { checkpoint, parameters } = source
  const names = new Map(parameters.map((p) => [p.name, p.names]))
  const files = [...new Set([...checkpoint.tensors.values()].map((t) => t.file))].sort(byCodePoint)
  const ordered = [...checkpoint.tensors.values()].sort(
    (a, b) => files.indexOf(a.file) - files.indexOf(b.file) || byCodePoint(a.name, b.name),
  )
  const out = generated.map((tensor) => memoryTensor(tensor, ranges))
  for (const tensor of ordered) {
    const found = names.get(tensor.name)
    if (found) out.push(viewTensor(checkpoint, tensor, found, ranges))
  }
  return out
}

function memoryTensor({ name, values }: GeneratedTensor, ranges: ViewRanges): StoredTensor {
  const raw = rawTensor('F32', [values.length], values)
  ranges.set(name, async (from, to) => raw.data.subarray(from, to))
  return { name, dtype: 'F32', shape: raw.shape, file: name, offset: 0, byteLength: values.byteLength }
}

/** Norms and learned positions. */
const FLOAT32_NAMES = /(?:_norm|^position_embd)\.weight$/

/** Vectors and norms are f32 in GGUF; matrices keep the input's dtype, which is f32 where ggml has no such type. */
function viewTensor(
  checkpoint: Checkpoint,
  stored: StoredTensor,
  names: ParameterName,
  ranges: ViewRanges,
): StoredTensor {
  const isVector = stored.shape.length < 2 || FLOAT32_NAMES.test(ggufNameOf(names))
  const dtype: DType = isVector || !(stored.dtype in FILE_TYPES) ? 'F32' : (stored.dtype as DType)
  const shape = storedShape(names.huggingFaceOp, stored.shape)
  const byteLength = elementCount(shape) * DTYPE_BYTES[dtype]
  const tensor = { ...stored, name: ggufNameOf(names), shape, dtype, byteLength }
  const compute = async () => {
    const raw = await readTensor(checkpoint, stored.name)
    const { values } = toGraph(names.huggingFaceOp, denseWeight(raw)).parts
    // The converter computes in float32, but for halves in their own precision.
    const wide = values.dtype === 'F16' || values.dtype === dtype ? values : widen(values)
    const made = fromGraph(names.ggufOp, denseWeight(wide)).parts.values
    return (made.dtype === dtype ? made : widen(made)).data
  }
  ranges.set(tensor.name, copiedRange(stored, dtype, names, ranges) ?? ranges.whole(tensor, compute))
  return tensor
}

/** Of a tensor whose elements stay as they are, but for the order of rotary rows: any range alone. */
function copiedRange(
  stored: StoredTensor,
  dtype: DType,
  { huggingFaceOp, ggufOp }: ParameterName,
  ranges: ViewRanges,
): RangeReader | undefined {
  if (huggingFaceOp || stored.dtype !== dtype || (ggufOp && ggufOp.kind !== 'permuteRope')) return undefined
  const read = ranges.stored(stored)
  const [rows] = stored.shape
  return ggufOp ? ranges.reordered(read, stored.byteLength / rows, rowOrder(ggufOp, rows, false)) : read
}

function widen(tensor: RawTensor): RawTensor {
  if (!isFloat(tensor.dtype))
    throw new UnsupportedError(`Cannot put ${tensor.dtype} tensors into a GGUF file`, { dtype: tensor.dtype })
  return rawTensor('F32', tensor.shape, toFloat32(tensor))
}

async function generationConfig(checkpoint: Checkpoint): Promise<JsonObject> {
  const name = 'generation_config.json'
  if (!(await checkpoint.files.has(name))) return {}
  return parseJsonObject(await readText(checkpoint.files, name), name)
}

/** Last part of a path, whichever way its slashes lean. */
function folderName(path: string): string {
  return (
    path
      .split(/[\\/]/)
      .filter((part) => part !== '' && part !== '.' && part !== '..')
      .at(-1) ?? 'model'
  )
}
