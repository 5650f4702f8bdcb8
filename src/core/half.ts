// IEEE half and bfloat16 <-> float32. Encoding rounds to nearest even, overflows to infinity and keeps subnormals and NaN.
// Node 20 has no Float16Array; decoding goes through a table of all 65,536 halves, built on first use.
import { type FloatDType, type RawTensor, torchName } from './dtypes.ts'
import { BugError, WeightError } from './errors.ts'

const f32 = new Float32Array(1)
const u32 = new Uint32Array(f32.buffer)

/** float32 -> half bits. */
export function f16Bits(value: number): number {
  f32[0] = value
  const bits = u32[0]
  const sign = (bits >>> 16) & 0x8000
  const abs = bits & 0x7fffffff
  if (abs >= 0x7f800000) return sign | (abs > 0x7f800000 ? 0x7e00 : 0x7c00)
  if (abs >= 0x477ff000) return sign | 0x7c00
  if (abs < 0x38800000) {
    // Subnormal half: its unit is 2^-24, and adding 0.5 in float32 rounds at exactly that unit.
    f32[0] = Math.abs(value) + 0.5
    return sign | (u32[0] - 0x3f000000)
  }
  return sign | ((abs - 0x38000000 + 0xfff + ((abs >>> 13) & 1)) >>> 13)
}

/** float32 -> bfloat16 bits; a NaN is quieted with bit 6, as ggml does. */
export function bf16Bits(value: number): number {
  f32[0] = value
  const bits = u32[0]
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16
}

let halfTable: Float32Array | undefined

function buildHalfTable(): Float32Array {
  const table = new Float32Array(65536)
  for (let bits = 0; bits < 65536; bits++) {
    const exponent = (bits >>> 10) & 31
    const mantissa = bits & 1023
    const magnitude =
      exponent === 31
        ? mantissa
          ? Number.NaN
          : Infinity
        : exponent === 0
          ? mantissa * 2 ** -24
          : (1 + mantissa / 1024) * 2 ** (exponent - 15)
    table[bits] = bits & 0x8000 ? -magnitude : magnitude
  }
  return table
}

/** Half bits -> number. */
export function fromF16Bits(bits: number): number {
  halfTable ??= buildHalfTable()
  return halfTable[bits & 0xffff]
}

/** bfloat16 bits -> number. */
export function fromBf16Bits(bits: number): number {
  u32[0] = bits << 16
  return f32[0]
}

/** Rounds to the nearest half / bfloat16 / float32 and back, as a cast in the reference does. */
export function roundTo(dtype: 'F64' | 'F32' | 'F16' | 'BF16', value: number): number {
  if (dtype === 'F32') return Math.fround(value)
  if (dtype === 'F64') return value
  return dtype === 'F16' ? fromF16Bits(f16Bits(value)) : fromBf16Bits(bf16Bits(value))
}

/** A typed view (or a copy where the bytes are not aligned for one) over little-endian bytes. */
export function aligned<T>(
  type: { new (buffer: ArrayBuffer, offset: number, length: number): T; BYTES_PER_ELEMENT: number },
  data: Uint8Array,
): T {
  const size = type.BYTES_PER_ELEMENT
  const bytes = data.byteOffset % size === 0 ? data : data.slice()
  return new type(bytes.buffer as ArrayBuffer, bytes.byteOffset, Math.floor(bytes.byteLength / size))
}

/** Widens a float tensor to float32, exactly (F64 is rounded). A F32 tensor is returned as a view where alignment allows. */
export function toFloat32(tensor: RawTensor): Float32Array {
  switch (tensor.dtype) {
    case 'F32':
      return aligned(Float32Array, tensor.data)
    case 'F64':
      return Float32Array.from(aligned(Float64Array, tensor.data))
    case 'BF16': {
      const bits = aligned(Uint16Array, tensor.data)
      const out = new Uint32Array(bits.length)
      for (let i = 0; i < bits.length; i++) out[i] = bits[i] << 16
      return new Float32Array(out.buffer)
    }
    case 'F16': {
      halfTable ??= buildHalfTable()
      const bits = aligned(Uint16Array, tensor.data)
      const out = new Float32Array(bits.length)
      for (let i = 0; i < bits.length; i++) out[i] = halfTable[bits[i]]
      return out
    }
    default:
      throw new BugError(`Cannot widen ${tensor.dtype} to float32`, { dtype: tensor.dtype })
  }
}

/** Rounds float32 values to `dtype`, nearest even; the bytes are little-endian. */
export function fromFloat32(values: Float32Array, dtype: 'F64' | 'F32' | 'F16' | 'BF16'): Uint8Array {
  if (dtype === 'F32') return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
  if (dtype === 'F64') return new Uint8Array(Float64Array.from(values).buffer)
  const out = new Uint16Array(values.length)
  const encode = dtype === 'F16' ? f16Bits : bf16Bits
  for (let i = 0; i < values.length; i++) out[i] = encode(values[i])
  return new Uint8Array(out.buffer)
}

/**
 * The float tensor `name` as `dtype`. Throws WeightError where a finite value is beyond `dtype`: an infinite weight is of no use to
 * anybody. `first`: number of its first element, for messages.
 */
export function castTensor(name: string, tensor: RawTensor, dtype: FloatDType, first = 0): RawTensor {
  const values = toFloat32(tensor)
  const data = fromFloat32(values, dtype)
  if (dtype === 'F16') refuseOverflow(name, torchName(tensor.dtype), () => values, data, first)
  return { dtype, shape: tensor.shape, data }
}

const INFINITY = 0x7c00
const NEGATIVE_INFINITY = 0xfc00

/**
 * Throws WeightError where one of `values` is finite and its half in `data` is not. `from`, and `first`, the number of the first element,
 * are for messages.
 */
export function refuseOverflow(
  name: string,
  from: string,
  values: () => Float32Array,
  data: Uint8Array,
  first = 0,
): void {
  const halves = aligned(Uint16Array, data)
  if (!halves.includes(INFINITY) && !halves.includes(NEGATIVE_INFINITY)) return
  const given = values()
  const at = halves.findIndex((half, i) => (half & 0x7fff) === INFINITY && Number.isFinite(given[i]))
  if (at < 0) return
  throw new WeightError(
    `Cannot cast "${name}" from ${from} to float16: element ${first + at} is ${given[at]}, the limit is 65504`,
    {
      tensor: name,
      index: first + at,
      actual: given[at],
      expected: 65504,
      hint: 'bfloat16 holds it',
    },
  )
}
