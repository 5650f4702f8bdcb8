// Importance matrices: for each tensor the mean square of the activations that its columns meet, as llama-imatrix collects them.
// Read here from the older .dat files; one weight a column, for stacked experts one a column and expert.
import type { ByteSource } from '../../checkpoint/types.ts'
import { ConfigError, FileError } from '../../core/errors.ts'
import type { TensorInfo } from '../types.ts'

export interface Imatrix {
  /** Weights by tensor name. */
  readonly entries: ReadonlyMap<string, Float32Array>
  /** Name of the (first) text it was collected from. */
  readonly dataset: string | undefined
  /** Chunks of text that were seen; 0 where the file does not say. */
  readonly chunks: number
}

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
  return readLegacy(source.name, await source.read(0, source.size))
}

/** i32 n; n times { i32 length, name, i32 calls, i32 count, f32[count] }; then perhaps i32 chunks, i32 length, dataset. */
function readLegacy(file: string, bytes: Uint8Array): Imatrix {
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
