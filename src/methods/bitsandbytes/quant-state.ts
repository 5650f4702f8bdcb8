// The quant_state of a 4-bit weight: JSON bytes in a tensor of their own, as Python's json.dumps writes them.
import { type FloatDType, TORCH_DTYPES, torchName } from '../../core/dtypes.ts'
import { FileError } from '../../core/errors.ts'
import { type JsonObject, parseJsonObject, pythonFloat, toPlain } from '../../core/json.ts'
import { BLOCK_SIZES } from './config.ts'

export interface QuantState {
  readonly quantType: 'nf4' | 'fp4'
  readonly blockSize: number
  /** Of the weight that was quantised. */
  readonly dtype: FloatDType
  readonly shape: readonly number[]
  /** Present where the scales are quantised themselves. */
  readonly nested?: { readonly blockSize: number; readonly offset: number }
}

/** A real one has about 170 bytes. */
export const MAX_STATE_BYTES = 4096
const RESTORE_DTYPES = ['float32', 'bfloat16', 'float16']
/** Any run of scales may share one of their own; the reference writes 256. */
const MAX_NESTED_BLOCK = 1 << 20

/** The JSON bytes, keys in the reference's order. */
export function writeQuantState(state: QuantState): Uint8Array {
  const fields = [
    `"quant_type": "${state.quantType}"`,
    `"blocksize": ${state.blockSize}`,
    `"dtype": "${torchName(state.dtype)}"`,
    `"shape": [${state.shape.join(', ')}]`,
  ]
  if (state.nested)
    fields.push(
      `"nested_blocksize": ${state.nested.blockSize}`,
      '"nested_dtype": "float32"',
      `"nested_offset": ${pythonFloat(state.nested.offset)}`,
    )
  return new TextEncoder().encode(`{${fields.join(', ')}}`)
}

/** Parses and checks the bytes of tensor `name`. Throws FileError naming the field. */
export function readQuantState(bytes: Uint8Array, name: string): QuantState {
  const json = parseJsonObject(decodeUtf8(bytes, name), name)
  const state = toPlain(json) as Record<string, unknown>
  const check = (field: string, legal: boolean, expected: string) => {
    if (!legal)
      throw new FileError(`Cannot read "${name}": "${field}" is ${show(state[field])}, expected ${expected}`, {
        tensor: name,
        field,
        actual: state[field],
        expected,
        hint: 'the file is damaged or was not written by bitsandbytes: download or quantise it again',
      })
  }
  const { quant_type: quantType, blocksize: blockSize, dtype, shape } = state
  check('quant_type', quantType === 'nf4' || quantType === 'fp4', '"nf4" or "fp4"')
  check('blocksize', BLOCK_SIZES.includes(blockSize as number), `one of ${BLOCK_SIZES.join(', ')}`)
  check('dtype', RESTORE_DTYPES.includes(dtype as string), `one of ${RESTORE_DTYPES.join(', ')}`)
  check(
    'shape',
    Array.isArray(shape) && shape.every((n) => Number.isSafeInteger(n) && n > 0),
    'a list of whole numbers',
  )
  return {
    quantType: quantType as 'nf4' | 'fp4',
    blockSize: blockSize as number,
    dtype: TORCH_DTYPES[dtype as string] as FloatDType,
    shape: shape as number[],
    nested: readNested(json, state, check),
  }
}

function readNested(
  json: JsonObject,
  state: Record<string, unknown>,
  check: (field: string, legal: boolean, expected: string) => void,
): QuantState['nested'] {
  if (!Object.keys(json).some((key) => key.startsWith('nested_'))) return undefined
  const { nested_blocksize: blockSize, nested_dtype: dtype, nested_offset: offset } = state
  const isCount =
    Number.isSafeInteger(blockSize) && (blockSize as number) > 0 && (blockSize as number) <= MAX_NESTED_BLOCK
  check('nested_blocksize', isCount, `a whole number from 1 to ${MAX_NESTED_BLOCK}`)
  check('nested_dtype', dtype === 'float32', '"float32"')
  check('nested_offset', Number.isFinite(offset), 'a finite number')
  return { blockSize: blockSize as number, offset: offset as number }
}

function decodeUtf8(bytes: Uint8Array, name: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (cause) {
    throw new FileError(`Cannot read "${name}": its bytes are not UTF-8`, { tensor: name, cause })
  }
}

/** A value for a message; NaN and infinities have no JSON. */
function show(value: unknown): string {
  return typeof value === 'number' ? String(value) : (JSON.stringify(value) ?? 'missing')
}
