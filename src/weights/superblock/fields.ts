// What the decoders and packers of blocks share.
import { fromF16Bits } from '../../core/half.ts'

/** Writes the values of the block that begins at byte `at` to out[0 .. elements), in float32, one rounding an operation, left to right. */
export type BlockDecoder = (bytes: Uint8Array, at: number, out: Float32Array) => void

export function half(bytes: Uint8Array, at: number): number {
  return fromF16Bits(bytes[at] | (bytes[at + 1] << 8))
}

export function putHalf(bytes: Uint8Array, at: number, bits: number): void {
  bytes[at] = bits & 255
  bytes[at + 1] = bits >> 8
}
