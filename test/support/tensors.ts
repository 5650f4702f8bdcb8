// Reads a fixture's safetensors file whole, through the product's own reader.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { openFile } from '../../src/checkpoint/node/files.ts'
import { readSafetensorsHeader } from '../../src/checkpoint/safetensors.ts'
import type { DType } from '../../src/core/dtypes.ts'
import { toFloat32 } from '../../src/core/half.ts'

export const FIXTURES: string = join(import.meta.dirname, '../fixtures')

export interface FixtureTensor {
  readonly dtype: string
  readonly shape: readonly number[]
  readonly data: Uint8Array
  /** Floats as float32. */
  floats(): Float32Array
  /** I64 or I32 as numbers. */
  ints(): number[]
}

/** Every tensor of one file below test/fixtures, by name. */
export async function fixtureTensors(path: string): Promise<ReadonlyMap<string, FixtureTensor>> {
  const source = await openFile(join(FIXTURES, path))
  const { tensors } = await readSafetensorsHeader(source)
  const out = new Map<string, FixtureTensor>()
  for (const { name, dtype, shape, offset, byteLength } of tensors) {
    const data = await source.read(offset, byteLength)
    out.set(name, {
      dtype,
      shape,
      data,
      floats: () => toFloat32({ dtype: dtype as DType, shape, data }),
      ints: () => {
        if (dtype === 'I64') return Array.from(new BigInt64Array(data.buffer), Number)
        return Array.from(new Int32Array(data.buffer))
      },
    })
  }
  await source.close()
  return out
}

/** Largest |a - b|, and where. */
export function largestDifference(a: Float32Array, b: Float32Array): { difference: number; index: number } {
  if (a.length !== b.length) throw new Error(`lengths ${a.length} and ${b.length} differ`)
  let difference = 0
  let index = -1
  for (let i = 0; i < a.length; i++) {
    const d = Math.abs(a[i] - b[i])
    if (!(d <= difference)) {
      difference = d
      index = i
    }
  }
  return { difference, index }
}

/** max - min. */
export function span(values: Float32Array): number {
  let low = Infinity
  let high = -Infinity
  for (const x of values) {
    if (x < low) low = x
    if (x > high) high = x
  }
  return high - low
}

/** A JSON file below test/fixtures. */
export async function fixtureJson<T>(path: string): Promise<T> {
  return JSON.parse(await readFile(join(FIXTURES, path), 'utf8')) as T
}
