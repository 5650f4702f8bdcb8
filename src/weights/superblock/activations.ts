// Q8_1 and Q8_K: what llama.cpp makes of activations. They are not written as weights; a file that holds them is read.
import { type BlockDecoder, half } from './fields.ts'

const int8 = (byte: number) => (byte << 24) >> 24

export const decodeQ81: BlockDecoder = (bytes, at, out) => {
  const d = half(bytes, at)
  for (let i = 0; i < 32; i++) out[i] = int8(bytes[at + 4 + i]) * d
}

export const decodeQ8K: BlockDecoder = (bytes, at, out) => {
  const d = new DataView(bytes.buffer, bytes.byteOffset + at).getFloat32(0, true)
  for (let i = 0; i < 256; i++) out[i] = int8(bytes[at + 4 + i]) * d
}
