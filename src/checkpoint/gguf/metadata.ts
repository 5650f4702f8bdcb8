// Key-values of a GGUF file with their types, so that a file can be written again exactly as it was; and typed look-ups for readers.
import { FileError } from '../../core/errors.ts'

export type GgufIntegerType = 'u8' | 'i8' | 'u16' | 'i16' | 'u32' | 'i32'
export type GgufNumberType = GgufIntegerType | 'f32' | 'f64'
export type GgufBigType = 'u64' | 'i64'
export type GgufType = GgufNumberType | GgufBigType | 'bool' | 'string' | 'array'

export type GgufNumbers =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array
  | BigUint64Array
  | BigInt64Array

/** `raw` is set only where `value` cannot say it all (a string that is not UTF-8, a NaN): the little-endian bytes after the type. */
export type GgufScalar =
  | { readonly type: GgufNumberType; readonly value: number; readonly raw?: Uint8Array }
  | { readonly type: GgufBigType; readonly value: bigint; readonly raw?: Uint8Array }
  | { readonly type: 'bool'; readonly value: boolean; readonly raw?: Uint8Array }
  | { readonly type: 'string'; readonly value: string; readonly raw?: Uint8Array }

export type GgufArray =
  | {
      readonly type: 'array'
      readonly element: GgufNumberType | GgufBigType
      readonly value: GgufNumbers
      readonly raw?: Uint8Array
    }
  | { readonly type: 'array'; readonly element: 'bool'; readonly value: readonly boolean[]; readonly raw?: Uint8Array }
  | { readonly type: 'array'; readonly element: 'string'; readonly value: readonly string[]; readonly raw?: Uint8Array }
  | {
      readonly type: 'array'
      readonly element: 'array'
      readonly value: readonly GgufArray[]
      readonly raw?: Uint8Array
    }

export type GgufValue = GgufScalar | GgufArray

/** In the order of the file. */
export type GgufMetadata = ReadonlyMap<string, GgufValue>

/** Ids of the value types, as stored. */
export const GGUF_TYPE_IDS: Readonly<Record<GgufType, number>> = {
  u8: 0,
  i8: 1,
  u16: 2,
  i16: 3,
  u32: 4,
  i32: 5,
  f32: 6,
  bool: 7,
  string: 8,
  array: 9,
  u64: 10,
  i64: 11,
  f64: 12,
}

/** How the numbers of each type lie in memory. */
export const GGUF_NUMBER_ARRAYS = {
  u8: Uint8Array,
  i8: Int8Array,
  u16: Uint16Array,
  i16: Int16Array,
  u32: Uint32Array,
  i32: Int32Array,
  f32: Float32Array,
  f64: Float64Array,
  u64: BigUint64Array,
  i64: BigInt64Array,
} as const satisfies Record<GgufNumberType | GgufBigType, unknown>

export function isGgufNumberType(type: GgufType): type is GgufNumberType | GgufBigType {
  return type in GGUF_NUMBER_ARRAYS
}

/** Makers of values: `ggufU32(2)`, `ggufStrings(['a'])`. */
export const ggufU32 = (value: number): GgufValue => ({ type: 'u32', value })
export const ggufI32 = (value: number): GgufValue => ({ type: 'i32', value })
export const ggufU16 = (value: number): GgufValue => ({ type: 'u16', value })
export const ggufF32 = (value: number): GgufValue => ({ type: 'f32', value: Math.fround(value) })
export const ggufString = (value: string): GgufValue => ({ type: 'string', value })
export const ggufStrings = (value: readonly string[]): GgufValue => ({ type: 'array', element: 'string', value })

/** Looks keys up with the type that the caller needs; each miss or wrong type is a FileError that names the key. */
export class GgufKeys {
  readonly file: string
  readonly metadata: ReadonlyMap<string, unknown>
  constructor(metadata: ReadonlyMap<string, unknown>, file: string) {
    this.metadata = metadata
    this.file = file
  }

  has(key: string): boolean {
    return this.metadata.has(key)
  }

  /** A number of any numeric type, 64-bit ones included where they are exact. */
  number(key: string): number | undefined {
    const value = this.get(key)
    if (value === undefined) return undefined
    if (typeof value.value === 'number') return value.value
    if (typeof value.value === 'bigint' && Number.isSafeInteger(Number(value.value))) return Number(value.value)
    return this.wrong(key, value, 'a number')
  }

  string(key: string): string | undefined {
    const value = this.get(key)
    if (value === undefined || value.type === 'string') return value?.value
    return this.wrong(key, value, 'a string')
  }

  boolean(key: string): boolean | undefined {
    const value = this.get(key)
    if (value === undefined || value.type === 'bool') return value?.value
    return this.wrong(key, value, 'a bool')
  }

  strings(key: string): readonly string[] | undefined {
    const value = this.get(key)
    if (value === undefined) return undefined
    if (value.type === 'array' && value.element === 'string') return value.value
    return this.wrong(key, value, 'an array of strings')
  }

  /** An array of numbers that fit a double; 64-bit ones are converted. */
  numbers(key: string): ArrayLike<number> | undefined {
    const value = this.get(key)
    if (value === undefined) return undefined
    if (value.type === 'array' && isGgufNumberType(value.element)) {
      const numbers = value.value as GgufNumbers
      if (numbers instanceof BigUint64Array || numbers instanceof BigInt64Array)
        return Float64Array.from(numbers, Number)
      return numbers
    }
    return this.wrong(key, value, 'an array of numbers')
  }

  /** The value that `look` finds. Throws FileError where the key is missing. */
  need<T>(key: string, value: T | undefined): T {
    if (value !== undefined) return value
    throw new FileError(`Cannot read "${this.file}": the key "${key}" is missing`, {
      file: this.file,
      key,
      hint: `fewbit inspect ${this.file}`,
    })
  }

  private get(key: string): GgufValue | undefined {
    return this.metadata.get(key) as GgufValue | undefined
  }

  private wrong(key: string, value: GgufValue, expected: string): never {
    const actual = value.type === 'array' ? `array of ${value.element}` : value.type
    throw new FileError(`Cannot read "${this.file}": the key "${key}" is ${actual}, expected ${expected}`, {
      file: this.file,
      key,
      expected,
      actual,
    })
  }
}
