// Importance matrices: for each tensor the mean square of the activations that its columns meet, as llama-imatrix collects them.
// Read from GGUF or from the older .dat files; one weight a column, for stacked experts one a column and expert.
import { GgufKeys } from '../../checkpoint/gguf/metadata.ts'
import { readGgufHeader } from '../../checkpoint/gguf/reader.ts'
import type { ByteSource, StoredTensor } from '../../checkpoint/types.ts'
import { ConfigError, FileError } from '../../core/errors.ts'
import { aligned } from '../../core/half.ts'
import type { TensorInfo } from '../types.ts'

/** What such a file is called where nobody gives a name. */
export const IMATRIX_FILE = 'imatrix.gguf'

export interface Imatrix {
  /** Weights by tensor name. */
  readonly entries: ReadonlyMap<string, Float32Array>
  /** Name of the (first) text it was collected from. */
  readonly dataset: string | undefined
  /** Chunks of text that were seen; 0 where the file does not say. */
  readonly chunks: number
  /** sha256 of the file. */
  readonly digest: string
}

type Contents = Omit<Imatrix, 'digest'>

/** Larger than any real matrix (a 70B model's takes 50 MB). */
const MAX_BYTES = 2 ** 31
/** ggml's own limit for tensor names is 63 bytes. */
const MAX_NAME = 255

/** Reads an importance matrix. Throws FileError where it is damaged or holds a value that is not finite. */
export async function readImatrix(source: ByteSource): Promise<Imatrix> {
  if (source.size > MAX_BYTES)
    throw new FileError(`Cannot read "${source.name}" as importance matrix: ${source.size} bytes are too many`, {
      file: source.name,
      actual: source.size,
      expected: MAX_BYTES,
    })
  const bytes = await source.read(0, source.size)
  const isGguf = new TextDecoder().decode(bytes.subarray(0, 4)) === 'GGUF'
  const contents = isGguf ? await readGgufImatrix(source) : readLegacy(source.name, bytes)
  const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes.slice()))
  return { ...contents, digest: Array.from(hash, (byte) => byte.toString(16).padStart(2, '0')).join('') }
}

const SUMS = '.in_sum2'
const COUNTS = '.counts'

/** Tensors NAME.in_sum2 [experts, K] (sums of squares) and NAME.counts [experts, 1]; the weight is their quotient. */
async function readGgufImatrix(source: ByteSource): Promise<Contents> {
  const { metadata, tensors } = await readGgufHeader(source)
  const file = source.name
  const keys = new GgufKeys(metadata, file)
  const type = keys.string('general.type')
  if (type !== 'imatrix')
    throw new FileError(`Cannot read "${file}" as importance matrix: it is a GGUF file of type "${type ?? 'model'}"`, {
      file,
      actual: type,
      expected: 'imatrix',
    })
  const datasets = keys.need('imatrix.datasets', keys.strings('imatrix.datasets'))
  const chunks = keys.need('imatrix.chunk_count', keys.number('imatrix.chunk_count'))
  keys.need('imatrix.chunk_size', keys.number('imatrix.chunk_size'))
  const byName = new Map(tensors.map((t) => [t.name, t]))
  const entries = new Map<string, Float32Array>()
  for (const sums of tensors) {
    if (!sums.name.endsWith(SUMS)) continue
    const name = sums.name.slice(0, -SUMS.length)
    const counts = byName.get(name + COUNTS)
    if (!counts)
      throw new FileError(`Cannot read "${file}" as importance matrix: "${name}${COUNTS}" is missing`, {
        file,
        tensor: name,
      })
    const values = quotients(await readFloats(source, sums), await readFloats(source, counts))
    if (!values)
      throw new FileError(
        `Cannot read "${file}" as importance matrix: "${name}" has sums [${sums.shape}] and counts [${counts.shape}]`,
        { file, tensor: name },
      )
    entries.set(name, checkFinite(file, name, values))
  }
  if (entries.size === 0)
    throw new FileError(`Cannot read "${file}" as importance matrix: it has no tensor "*${SUMS}"`, { file })
  return { entries, dataset: datasets[0], chunks }
}

async function readFloats(source: ByteSource, tensor: StoredTensor): Promise<Float32Array> {
  if (tensor.dtype !== 'F32')
    throw new FileError(`Cannot read "${source.name}" as importance matrix: "${tensor.name}" is ${tensor.dtype}`, {
      file: source.name,
      tensor: tensor.name,
      expected: 'F32',
      actual: tensor.dtype,
    })
  return aligned(Float32Array, await source.read(tensor.offset, tensor.byteLength))
}

/** Sums divided by each expert's count; an expert that saw nothing weighs 1 everywhere. Undefined where the sizes disagree. */
function quotients(sums: Float32Array, counts: Float32Array): Float32Array | undefined {
  const columns = sums.length / counts.length
  if (!Number.isInteger(columns)) return undefined
  return sums.map((sum, i) => {
    const count = counts[Math.floor(i / columns)]
    return count > 0 ? sum / count : 1
  })
}

/** i32 n; n times { i32 length, name, i32 calls, i32 count, f32[count] }; then perhaps i32 chunks, i32 length, dataset. */
function readLegacy(file: string, bytes: Uint8Array): Contents {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  let at = 0
  const fail = (problem: string): never => {
    throw new FileError(`Cannot read "${file}" as importance matrix: ${problem} at byte ${at}`, {
      file,
      offset: at,
      hint: 'expected is a file that llama-imatrix wrote (.gguf or .dat)',
    })
  }
  const take = (count: number, what: string): number => {
    if (count < 0 || at + count > bytes.length) fail(`${what} runs over the end of the file`)
    at += count
    return at - count
  }
  const int = (what: string): number => view.getInt32(take(4, what), true)
  const text = (limit: number, what: string): string => {
    const length = int(`the length of ${what}`)
    if (length < 0 || length > limit) fail(`${what} claims ${length} bytes`)
    const start = take(length, what)
    return new TextDecoder().decode(bytes.subarray(start, start + length))
  }
  const entries = new Map<string, Float32Array>()
  const count = int('the number of entries')
  if (count < 1) fail(`it claims ${count} entries`)
  for (let e = 0; e < count; e++) {
    const name = text(MAX_NAME, 'the name of an entry')
    if (entries.has(name)) fail(`"${name}" is there twice`)
    const calls = int(`"${name}"`)
    const size = int(`"${name}"`)
    if (size < 1) fail(`"${name}" claims ${size} values`)
    const start = take(4 * size, `"${name}"`)
    const values = new Float32Array(bytes.slice(start, start + 4 * size).buffer)
    if (calls > 0) for (let i = 0; i < size; i++) values[i] /= calls
    entries.set(name, checkFinite(file, name, values))
  }
  const chunks = at < bytes.length ? int('the number of chunks') : 0
  const dataset = at < bytes.length ? text(bytes.length, 'the dataset') : undefined
  return { entries, dataset, chunks }
}

function checkFinite(file: string, name: string, values: Float32Array): Float32Array {
  const index = values.findIndex((v) => !Number.isFinite(v))
  if (index < 0) return values
  throw new FileError(`Cannot read "${file}" as importance matrix: value ${index} of "${name}" is ${values[index]}`, {
    file,
    tensor: name,
    index,
    actual: values[index],
  })
}

/** The weights of one tensor [.., N, K], or undefined where the matrix has none. Throws ConfigError where their number does not fit. */
export function importanceOf(
  imatrix: Imatrix | undefined,
  { name, shape }: TensorInfo,
  warnings: string[],
): Float32Array | undefined {
  const values = imatrix?.entries.get(name)
  if (!values) return undefined
  const experts = shape.length > 2 ? shape[0] : 1
  const expected = shape[shape.length - 1] * experts
  if (values.length === expected) return values
  const message = `the importance matrix has ${values.length} values for "${name}", its rows need ${expected}`
  if (name === 'token_embd.weight') {
    warnings.push(`${message}: not used for this tensor`)
    return undefined
  }
  throw new ConfigError(`Cannot quantise "${name}": ${message}`, {
    tensor: name,
    expected,
    actual: values.length,
    hint: 'an importance matrix belongs to one model: collect it with the model that is to be quantised',
  })
}
