// Named distances between results that should be equal, with their reasons, and the comparisons that use them. All are relative to the
// span (max - min) of the expected values: the largest one, where several arrays of one quantity are compared.
import { expect } from 'vitest'
import { largestDifference, span } from './tensors.ts'

/** Sums in another order, activations as digits with float32's error, an exp of our own. contracts.md demands 1e-4 between backends. */
export const KERNEL = 1e-5

/** KERNEL through four layers, of which a sharp softmax or a multiplied embedding makes more. */
export const LAYERS = 4 * KERNEL

/**
 * Where activations are int8 codes by the method's own definition, a value that lies between two codes may round to either: one step is
 * 1/127 of a row's largest activation, and what follows moves with it.
 */
export const CODE_STEP = 3e-2

/** `fast`: activations as int8 with one scale for 32, half a step of 1/127 in each product, over all layers of a tiny model. */
export const FAST = 3e-2

/** Every array of `actual` lies within `tolerance` of the one of the same name. */
export function expectClose<K extends string>(
  actual: Readonly<Record<K, Float32Array>>,
  expected: Readonly<Record<K, Float32Array>>,
  tolerance: number,
): void {
  const keys = Object.keys(expected) as K[]
  const scale = Math.max(...keys.map((key) => span(expected[key])))
  for (const key of keys) {
    const { difference, index } = largestDifference(actual[key], expected[key])
    expect(difference / scale, `${key}, of the span, at ${index}`).toBeLessThanOrEqual(tolerance)
  }
}

/** Equal bit for bit; the message says where the first difference is. Faster than toEqual on large arrays. */
export function expectSameBits(actual: ArrayBufferView, expected: ArrayBufferView, what: string): void {
  const bytes = (view: ArrayBufferView) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength)
  const [a, e] = [bytes(actual), bytes(expected)]
  if (Buffer.compare(a, e) === 0) return
  const at = e.findIndex((byte, i) => byte !== a[i])
  expect.fail(`${what} differs at byte ${at} of ${e.length} (${a.length} bytes are there)`)
}

/** The same files with the same bytes. */
export function expectSameFiles(
  actual: Readonly<Record<string, Uint8Array>>,
  expected: Readonly<Record<string, Uint8Array>>,
  what: string,
): void {
  expect(Object.keys(actual).sort(), what).toEqual(Object.keys(expected).sort())
  for (const [name, bytes] of Object.entries(expected)) expectSameBits(actual[name], bytes, `${what}: "${name}"`)
}
