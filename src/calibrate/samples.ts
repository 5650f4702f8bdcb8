// Calibration files -> samples: .txt, .json, .jsonl and .parquet of texts, conversations or ids. Everything that a file claims is checked.
import type { ByteSource } from '../checkpoint/types.ts'
import { FileError } from '../core/errors.ts'
import type { ChatMessage } from '../text/types.ts'

export type CalibrationSample =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'chat'; readonly messages: readonly ChatMessage[] }
  | { readonly kind: 'ids'; readonly ids: readonly number[] }

/** A file of samples; `text` is a plain text file as it stands, which each method divides by its own rule. */
export type CalibrationFile =
  | { readonly kind: 'text'; readonly name: string; readonly text: string }
  | { readonly kind: 'samples'; readonly name: string; readonly samples: readonly CalibrationSample[] }

/** Larger than any calibration set in use. */
const MAX_BYTES = 2 ** 31
const COLUMNS = ['text', 'messages', 'input_ids'] as const
const EXPECTED = 'expected are a string, an array of ids, or an object with "text", "messages" or "input_ids"'

/** Reads a calibration file by its extension. Throws FileError naming what cannot be read. */
export async function readCalibration(source: ByteSource): Promise<CalibrationFile> {
  const { name } = source
  const extension = /\.(\w+)$/.exec(name)?.[1].toLowerCase()
  if (extension === 'parquet') return { kind: 'samples', name, samples: await readParquet(source) }
  if (extension !== 'txt' && extension !== 'json' && extension !== 'jsonl')
    throw new FileError(
      `Cannot read "${name}" as calibration data: its name ends in none of .txt, .json, .jsonl, .parquet`,
      {
        file: name,
      },
    )
  if (source.size > MAX_BYTES) fail(name, `${source.size} bytes are too many`, { expected: MAX_BYTES })
  const text = new TextDecoder().decode(await source.read(0, source.size))
  if (extension === 'txt') return { kind: 'text', name, text }
  return { kind: 'samples', name, samples: extension === 'json' ? readArray(name, text) : readLines(name, text) }
}

function fail(file: string, problem: string, fields: Record<string, unknown> = {}): never {
  throw new FileError(`Cannot read "${file}" as calibration data: ${problem}`, { file, ...fields })
}

function readArray(file: string, text: string): CalibrationSample[] {
  const value = parse(file, text, '')
  if (!Array.isArray(value)) fail(file, 'it holds no array')
  return value.map((item, i) => sampleOf(file, item, `element ${i}`))
}

function readLines(file: string, text: string): CalibrationSample[] {
  return text
    .split('\n')
    .flatMap((line, i) =>
      line.trim() === '' ? [] : [sampleOf(file, parse(file, line, `line ${i + 1}: `), `line ${i + 1}`)],
    )
}

function parse(file: string, text: string, where: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    return fail(file, `${where}${(cause as Error).message}`, { cause })
  }
}

function sampleOf(file: string, value: unknown, where: string): CalibrationSample {
  if (typeof value === 'string') return { kind: 'text', text: value }
  if (isIds(value)) return { kind: 'ids', ids: value }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    fail(file, `${where} is no sample: ${EXPECTED}`)
  const { text, messages, input_ids: ids } = value as Record<string, unknown>
  if (typeof text === 'string') return { kind: 'text', text }
  if (isMessages(messages)) return { kind: 'chat', messages }
  if (isIds(ids)) return { kind: 'ids', ids }
  return fail(file, `${where} is no sample: ${EXPECTED}`, { keys: Object.keys(value) })
}

function isIds(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((id) => Number.isSafeInteger(id) && id >= 0)
}

function isMessages(value: unknown): value is ChatMessage[] {
  const isTurn = (turn: unknown) => typeof (turn as ChatMessage | null)?.role === 'string'
  return Array.isArray(value) && value.length > 0 && value.every(isTurn)
}

/** The column `text`, `messages` or `input_ids`, else the only column of strings. */
async function readParquet(source: ByteSource): Promise<CalibrationSample[]> {
  const { name } = source
  const { parquetMetadataAsync, parquetReadObjects, parquetSchema } = await import('hyparquet')
  const { compressors } = await import('hyparquet-compressors')
  const file = {
    byteLength: source.size,
    slice: async (start: number, end = source.size) => {
      const bytes = await source.read(start, Math.max(0, Math.min(end, source.size) - start))
      return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer
    },
  }
  try {
    const metadata = await parquetMetadataAsync(file)
    const { children } = parquetSchema(metadata)
    const strings = children.filter(({ element }) => element.type === 'BYTE_ARRAY').map(({ element }) => element.name)
    const names = children.map(({ element }) => element.name)
    const column = COLUMNS.find((wanted) => names.includes(wanted)) ?? (strings.length === 1 ? strings[0] : undefined)
    if (column === undefined)
      fail(name, `none of its columns is called ${COLUMNS.join(', ')}, and not one alone holds text`, {
        columns: names,
      })
    const rows = await parquetReadObjects({ file, metadata, columns: [column], compressors })
    return rows.map((row, i) => sampleOf(name, plain(column, row[column]), `row ${i}`))
  } catch (cause) {
    if (cause instanceof FileError) throw cause
    return fail(name, (cause as Error).message, { cause })
  }
}

/** A parquet value as a sample of the same meaning: integers come as BigInt or in typed arrays. */
function plain(column: string, value: unknown): unknown {
  if (column === 'messages') return { messages: value }
  if (typeof value === 'string' || value === null || typeof value !== 'object') return value
  return Array.from(value as Iterable<unknown>, Number)
}
