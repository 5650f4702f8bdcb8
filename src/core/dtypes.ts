// Number formats of tensors as files name them (safetensors' spelling), and raw tensors of them.

/** Element types that a dense tensor can have. */
export type DType =
  | 'F64'
  | 'F32'
  | 'F16'
  | 'BF16'
  | 'F8_E4M3'
  | 'F8_E5M2'
  | 'F8_E4M3FNUZ'
  | 'I64'
  | 'I32'
  | 'I16'
  | 'I8'
  | 'U64'
  | 'U32'
  | 'U16'
  | 'U8'
  | 'BOOL'

/** Float types that weights and scales come in. */
export type FloatDType = 'F64' | 'F32' | 'F16' | 'BF16'

export const DTYPE_BYTES: Readonly<Record<DType, number>> = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  F8_E4M3: 1,
  F8_E5M2: 1,
  F8_E4M3FNUZ: 1,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U64: 8,
  U32: 4,
  U16: 2,
  U8: 1,
  BOOL: 1,
}

/** The names that torch, config.json and the flag `--dtype` use. */
export const TORCH_DTYPES: Readonly<Record<string, DType>> = {
  float64: 'F64',
  float32: 'F32',
  float16: 'F16',
  bfloat16: 'BF16',
  int64: 'I64',
  int32: 'I32',
  int16: 'I16',
  int8: 'I8',
  uint8: 'U8',
}

/** `'BF16'` -> `'bfloat16'`. */
export function torchName(dtype: DType): string {
  for (const name in TORCH_DTYPES) if (TORCH_DTYPES[name] === dtype) return name
  return dtype.toLowerCase()
}

/** A tensor in memory: little-endian bytes of `dtype`, row-major. */
export interface RawTensor {
  readonly dtype: DType
  readonly shape: readonly number[]
  readonly data: Uint8Array
}

/** Product of the dimensions; 1 for a scalar. */
export function elementCount(shape: readonly number[]): number {
  let count = 1
  for (const n of shape) count *= n
  return count
}

export function isFloat(dtype: string): dtype is FloatDType {
  return dtype === 'F32' || dtype === 'BF16' || dtype === 'F16' || dtype === 'F64'
}

/** Wraps a typed array as a RawTensor without copying. */
export function rawTensor(dtype: DType, shape: readonly number[], values: ArrayBufferView): RawTensor {
  return { dtype, shape, data: new Uint8Array(values.buffer, values.byteOffset, values.byteLength) }
}
