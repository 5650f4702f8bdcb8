// Files of torch.save as a Checkpoint: pytorch_model.bin (and shards), the .pt files of AWQ and hqq. The pickle only says where tensors
// are; their bytes are read by range from the file, as with safetensors.
import { DTYPE_BYTES, type DType, elementCount, type RawTensor, rawTensor } from '../../core/dtypes.ts'
import { FileError } from '../../core/errors.ts'
import { type JsonObject, parseJsonObject } from '../../core/json.ts'
import { parseIndex } from '../shards.ts'
import { readText } from '../text-file.ts'
import type { ByteSource, Checkpoint, FileSet, StoredTensor } from '../types.ts'
import { readArchive, type TorchArchive } from './archive.ts'
import { isTensor, type PickleDict, type PickleValue, type TorchTensor } from './unpickle.ts'

export const TORCH_FILE = 'pytorch_model.bin'
export const TORCH_INDEX = 'pytorch_model.bin.index.json'
/** What hqq's own save_quantized writes; its config.json does not name the method. */
export const HQQ_FILE = 'qmodel.pt'

/** Modules, their parts, and the `meta` of old hqq files. */
const MAX_DEPTH = 4
const MAX_TENSORS = 1_000_000

/** How the bytes of one tensor come about. */
type Reader = (from: number, to: number) => Promise<Uint8Array>

interface Opened {
  readonly tensor: StoredTensor
  readonly read: Reader
}

/** Opens one file of torch.save, or all that an index names. Throws FileError. */
export async function openTorch(files: FileSet, name: string): Promise<Checkpoint> {
  const names = name.endsWith('.index.json') ? parseIndex(await readText(files, name), name, '.bin').shards : [name]
  const sources: ByteSource[] = []
  const closeAll = async () => {
    for (const source of sources) await source.close()
  }
  try {
    const opened = new Map<string, Opened>()
    for (const file of names) {
      const source = await files.open(file)
      sources.push(source)
      const archive = await readArchive(source)
      for (const one of tensorsOf(archive, source)) {
        if (opened.has(one.tensor.name))
          throw new FileError(`Cannot open "${files.name}": tensor "${one.tensor.name}" is in two shards`, {
            tensor: one.tensor.name,
            file,
          })
        opened.set(one.tensor.name, one)
      }
    }
    return {
      format: 'safetensors',
      container: 'torch',
      files,
      tensors: new Map([...opened].map(([key, { tensor }]) => [key, tensor])),
      config: await configOf(files, name),
      metadata: new Map([['format', 'pt']]),
      warnings: [],
      read: (tensor, from = 0, to = tensor.byteLength) => opened.get(tensor.name)!.read(from, to),
      close: closeAll,
    }
  } catch (e) {
    await closeAll()
    throw e
  }
}

async function configOf(files: FileSet, name: string): Promise<JsonObject | null> {
  if (!(await files.has('config.json'))) return null
  const config = parseJsonObject(await readText(files, 'config.json'), 'config.json')
  if (name !== HQQ_FILE || config.quantization_config !== undefined) return config
  return { ...config, quantization_config: { quant_method: 'hqq' } }
}

/** `{name: tensor}`, `{"state_dict": {...}}`, or hqq's `{module: {key: tensor or value}}`. */
function tensorsOf(archive: TorchArchive, source: ByteSource): Opened[] {
  const fail = (problem: string): never => {
    throw new FileError(`Cannot read "${source.name}": ${problem}`, {
      file: source.name,
      hint: 'fewbit reads dictionaries of tensors by name, as state_dict() gives them',
    })
  }
  const top = archive.value instanceof Map ? archive.value : fail('it holds no dictionary')
  const inner = top.get('state_dict')
  const out: Opened[] = []
  const add = (name: string, value: PickleValue, depth = 1): void => {
    if (out.length > MAX_TENSORS || depth > MAX_DEPTH)
      fail(`it holds more than ${MAX_TENSORS} tensors, or dictionaries within ${MAX_DEPTH} others`)
    if (isTensor(value)) out.push(storedTensor(name, value, archive, source))
    else if (value instanceof Map) for (const [key, one] of textKeys(value, fail)) add(`${name}.${key}`, one, depth + 1)
    else {
      const described = description(value)
      if (described) out.push(inMemory(name, described, source.name))
    }
  }
  for (const [name, value] of textKeys(inner instanceof Map ? inner : top, fail)) add(name, value)
  return out
}

function textKeys(dict: PickleDict, fail: (problem: string) => never): [string, PickleValue][] {
  return [...dict].map(([key, value]) => [typeof key === 'string' ? key : fail('a key in it is no text'), value])
}

function storedTensor(name: string, tensor: TorchTensor, archive: TorchArchive, source: ByteSource): Opened {
  const place = archive.storages.get(tensor.storage)
  const width = DTYPE_BYTES[tensor.dtype as DType]
  if (!place || place.size < tensor.length * width)
    throw new FileError(
      `Cannot read "${source.name}": tensor "${name}" needs ${tensor.length * width} bytes of storage ${tensor.storage}, there are ${place?.size ?? 'none'}`,
      { file: source.name, tensor: name, hint: 'the file is damaged or incomplete: download it again' },
    )
  const { shape } = tensor
  const byteLength = elementCount(shape) * width
  const offset = place.offset + tensor.offset * width
  const stored: StoredTensor = { name, dtype: tensor.dtype, shape, file: source.name, offset, byteLength }
  if (isContiguous(tensor)) return { tensor: stored, read: (from, to) => source.read(offset + from, to - from) }
  return {
    tensor: stored,
    read: async (from, to) =>
      gathered(tensor, width, await source.read(place.offset, tensor.length * width)).subarray(from, to),
  }
}

function isContiguous({ shape, stride }: TorchTensor): boolean {
  let expected = 1
  for (let i = shape.length - 1; i >= 0; i--) {
    if (shape[i] !== 1 && stride[i] !== expected) return false
    expected *= shape[i]
  }
  return true
}

/** The elements of a transposed or sliced tensor, row-major. */
function gathered({ shape, stride, offset }: TorchTensor, width: number, storage: Uint8Array): Uint8Array {
  const count = elementCount(shape)
  const out = new Uint8Array(count * width)
  const index = new Array<number>(shape.length).fill(0)
  let at = offset
  for (let i = 0; i < count; i++) {
    out.set(storage.subarray(at * width, (at + 1) * width), i * width)
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      at += stride[axis]
      if (++index[axis] < shape[axis]) break
      at -= stride[axis] * shape[axis]
      index[axis] = 0
    }
  }
  return out
}

/** A plain value as the small tensor that describes the same in hqq's safetensors files; undefined for None and what is no description. */
function description(value: PickleValue): RawTensor | undefined {
  if (typeof value === 'boolean') return rawTensor('U8', [], Uint8Array.of(Number(value)))
  if (typeof value === 'number')
    return Number.isInteger(value)
      ? rawTensor('I32', [], Int32Array.of(value))
      : rawTensor('F32', [], Float32Array.of(value))
  if (Array.isArray(value) && value.every((n) => typeof n === 'number'))
    return rawTensor('I64', [value.length], BigInt64Array.from(value as number[], BigInt))
  const text = typeof value === 'string' ? value : isName(value) ? value.name : undefined
  if (text === undefined) return undefined
  const bytes = new TextEncoder().encode(text)
  return rawTensor('U8', [bytes.length], bytes)
}

function isName(value: PickleValue): value is { readonly kind: 'name'; readonly name: string } {
  return typeof value === 'object' && value !== null && 'kind' in value && value.kind === 'name'
}

function inMemory(name: string, raw: RawTensor, file: string): Opened {
  const { dtype, shape, data } = raw
  return {
    tensor: { name, dtype, shape, file, offset: 0, byteLength: data.byteLength },
    read: async (from, to) => data.subarray(from, to),
  }
}
