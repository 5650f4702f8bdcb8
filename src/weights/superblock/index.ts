// The blocks of GGUF that stay as they are in the file, a row of the table each. A new type is a row here and one in
// native/kernels/blocks/types.h, its decoder in both, and its quantiser in methods/gguf/ and native/kernels/quantize/.
import { decodeQ8K, decodeQ81 } from './activations.ts'
import { decodeQ10, decodeQ20, decodeTq1, decodeTq2 } from './few-bits.ts'
import type { BlockDecoder } from './fields.ts'
import { decodeIq4Nl, decodeIq4Xs, decodeMxfp4, decodeNvfp4 } from './four-bits.ts'
import type { GridName } from './grids.ts'
import {
  decodeIq1m,
  decodeIq1s,
  decodeIq2s,
  decodeIq2xs,
  decodeIq2xxs,
  decodeIq3s,
  decodeIq3xxs,
  iq1mScale,
} from './iq.ts'
import { decodeQ2K, decodeQ3K, decodeQ4K, decodeQ5K, decodeQ6K } from './k.ts'

export interface SuperblockLayout {
  /** ggml's number of the type; kernels know it by the same. */
  readonly id: number
  /** Values in a block; a row holds whole blocks. */
  readonly elements: number
  /** Bytes of each field, in file order. */
  readonly fields: Readonly<Record<string, number>>
  /** Where the half floats lie that scale or shift the block: one that is not finite makes all its values so. */
  readonly halves: readonly number[]
  /** The bits of such a half that lies in pieces. */
  readonly scattered?: (bytes: Uint8Array, at: number) => number
  /** The grid whose rows the codes number, where they do. */
  readonly grid?: GridName
  readonly decode: BlockDecoder
}

const TABLE = {
  // value = q * scale; `sums` only serve products
  Q8_1: { id: 9, elements: 32, fields: { scale: 2, sum: 2, codes: 32 }, halves: [0, 2], decode: decodeQ81 },
  Q8_K: { id: 15, elements: 256, fields: { scale: 4, codes: 256, sums: 32 }, halves: [], decode: decodeQ8K },
  // value = (scale * s_g) * q - min * m_g: groups of 16, s and m nibbles of `groups`
  Q2_K: {
    id: 10,
    elements: 256,
    fields: { groups: 16, codes: 64, scale: 2, min: 2 },
    halves: [80, 82],
    decode: decodeQ2K,
  },
  // value = (scale * (s_g - 32)) * (q - 4): groups of 16, s 6 bits each in `groups`, bit 2 of q in `high`
  Q3_K: {
    id: 11,
    elements: 256,
    fields: { high: 32, codes: 64, groups: 12, scale: 2 },
    halves: [108],
    decode: decodeQ3K,
  },
  // value = (scale * s_g) * q - (min * m_g): groups of 32, s and m 6 bits each in `groups`
  Q4_K: {
    id: 12,
    elements: 256,
    fields: { scale: 2, min: 2, groups: 12, codes: 128 },
    halves: [0, 2],
    decode: decodeQ4K,
  },
  Q5_K: {
    id: 13,
    elements: 256,
    fields: { scale: 2, min: 2, groups: 12, high: 32, codes: 128 },
    halves: [0, 2],
    decode: decodeQ5K,
  },
  // value = (scale * s_g) * (q - 32): groups of 16, s int8
  Q6_K: {
    id: 14,
    elements: 256,
    fields: { codes: 128, high: 64, groups: 16, scale: 2 },
    halves: [208],
    decode: decodeQ6K,
  },
  // grid types: a code numbers a row of 8 (IQ3: 4) magnitudes, value = scale of the group * +-magnitude
  IQ2_XXS: {
    id: 16,
    elements: 256,
    fields: { scale: 2, groups: 64 },
    halves: [0],
    grid: 'IQ2_XXS',
    decode: decodeIq2xxs,
  },
  IQ2_XS: {
    id: 17,
    elements: 256,
    fields: { scale: 2, codes: 64, groups: 8 },
    halves: [0],
    grid: 'IQ2_XS',
    decode: decodeIq2xs,
  },
  IQ2_S: {
    id: 22,
    elements: 256,
    fields: { scale: 2, codes: 32, signs: 32, high: 8, groups: 8 },
    halves: [0],
    grid: 'IQ2_S',
    decode: decodeIq2s,
  },
  IQ3_XXS: {
    id: 18,
    elements: 256,
    fields: { scale: 2, codes: 64, groups: 32 },
    halves: [0],
    grid: 'IQ3_XXS',
    decode: decodeIq3xxs,
  },
  IQ3_S: {
    id: 21,
    elements: 256,
    fields: { scale: 2, codes: 64, high: 8, signs: 32, groups: 4 },
    halves: [0],
    grid: 'IQ3_S',
    decode: decodeIq3s,
  },
  // rows of -1, 0, 1: value = scale of the group * (row's +- 1/8)
  IQ1_S: {
    id: 19,
    elements: 256,
    fields: { scale: 2, codes: 32, groups: 16 },
    halves: [0],
    grid: 'IQ1',
    decode: decodeIq1s,
  },
  IQ1_M: {
    id: 29,
    elements: 256,
    fields: { codes: 32, high: 16, groups: 8 },
    halves: [],
    scattered: iq1mScale,
    grid: 'IQ1',
    decode: decodeIq1m,
  },
  // value = scale * table[q]; IQ4_XS: (scale * (s_g - 32)) * table[q], groups of 32, 4 bits of s in `low`, 2 in `high`
  IQ4_NL: { id: 20, elements: 32, fields: { scale: 2, codes: 16 }, halves: [0], decode: decodeIq4Nl },
  IQ4_XS: {
    id: 23,
    elements: 256,
    fields: { scale: 2, high: 2, low: 4, codes: 128 },
    halves: [0],
    decode: decodeIq4Xs,
  },
  // E2M1 times a power of two, or times an unsigned E4M3 a group of 16
  MXFP4: { id: 39, elements: 32, fields: { exponent: 1, codes: 16 }, halves: [], decode: decodeMxfp4 },
  NVFP4: { id: 40, elements: 64, fields: { scales: 4, codes: 32 }, halves: [], decode: decodeNvfp4 },
  // value = (q - 1) * scale; Q1_0: scale or its opposite
  TQ1_0: { id: 34, elements: 256, fields: { trits: 48, last: 4, scale: 2 }, halves: [52], decode: decodeTq1 },
  TQ2_0: { id: 35, elements: 256, fields: { codes: 64, scale: 2 }, halves: [64], decode: decodeTq2 },
  Q1_0: { id: 41, elements: 128, fields: { scale: 2, signs: 16 }, halves: [0], decode: decodeQ10 },
  Q2_0: { id: 42, elements: 64, fields: { scale: 2, codes: 16 }, halves: [0], decode: decodeQ20 },
} as const satisfies Record<string, SuperblockLayout>

export type SuperblockType = keyof typeof TABLE

export const SUPERBLOCKS: Readonly<Record<SuperblockType, SuperblockLayout>> = TABLE

export function isSuperblockType(type: string): type is SuperblockType {
  return Object.hasOwn(TABLE, type)
}

/** Bytes of one block: the sum of its fields. */
export function superblockBytes(type: SuperblockType): number {
  return Object.values(SUPERBLOCKS[type].fields).reduce((a, b) => a + b, 0)
}

/** Flat elements [from, to) of blocks stored one after another. */
export function decodeSuperblocks(type: SuperblockType, bytes: Uint8Array, from: number, to: number): Float32Array {
  const { elements, decode } = SUPERBLOCKS[type]
  const size = superblockBytes(type)
  const out = new Float32Array(to - from)
  const block = new Float32Array(elements)
  for (let b = Math.floor(from / elements); b * elements < to; b++) {
    decode(bytes, b * size, block)
    const first = b * elements
    const start = Math.max(from, first)
    out.set(block.subarray(start - first, Math.min(to, first + elements) - first), start - from)
  }
  return out
}
