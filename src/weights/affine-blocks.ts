// GGUF blocks of 32 values that are affine groups: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0. One function to pack, one to unpack, both driven by
// the record; inside the house such a weight is codes, scale and perhaps shift like any other affine one.
//
//   d [m] [qh: bit 4 of code j is bit j] qs      4 and 5 bits: byte j of qs holds code j low, code j + 16 high; 8 bits: signed bytes
import { rawTensor } from '../core/dtypes.ts'
import { BugError } from '../core/errors.ts'
import type { AffineScheme } from './scheme.ts'
import { part, type QuantizedWeight } from './weight.ts'

export type AffineBlockType = 'Q4_0' | 'Q4_1' | 'Q5_0' | 'Q5_1' | 'Q8_0'

export interface AffineBlock {
  /** ggml's number of the type; kernels know it by the same. */
  readonly id: number
  readonly bits: 4 | 5 | 8
  /** Constant zero point, where there is no shift. */
  readonly zero: number
  /** A half minimum follows the scale. */
  readonly shift: boolean
  /** Bytes of each field, in file order. */
  readonly fields: Readonly<Record<string, number>>
}

/** Values in a block. */
export const AFFINE_BLOCK_SIZE = 32

export const AFFINE_BLOCKS: Readonly<Record<AffineBlockType, AffineBlock>> = {
  Q4_0: { id: 2, bits: 4, zero: 8, shift: false, fields: { scale: 2, codes: 16 } },
  Q4_1: { id: 3, bits: 4, zero: 0, shift: true, fields: { scale: 2, shift: 2, codes: 16 } },
  Q5_0: { id: 6, bits: 5, zero: 16, shift: false, fields: { scale: 2, high: 4, codes: 16 } },
  Q5_1: { id: 7, bits: 5, zero: 0, shift: true, fields: { scale: 2, shift: 2, high: 4, codes: 16 } },
  Q8_0: { id: 8, bits: 8, zero: 128, shift: false, fields: { scale: 2, codes: 32 } },
}

export function isAffineBlockType(type: string): type is AffineBlockType {
  return type in AFFINE_BLOCKS
}

/** Bytes of one block: the sum of its fields. */
export function affineBlockBytes(type: AffineBlockType): number {
  return Object.values(AFFINE_BLOCKS[type].fields).reduce((a, b) => a + b, 0)
}

export function affineBlockScheme(type: AffineBlockType): AffineScheme {
  const { bits, zero, shift } = AFFINE_BLOCKS[type]
  return {
    kind: 'affine',
    bits,
    group: { kind: 'flat', size: AFFINE_BLOCK_SIZE },
    zero: shift ? 'shift' : zero,
  }
}

/** The weight [N, K] of its parts as a kernel or a quantiser gives them: codes U8 [N*K], scale and shift half bits [N*K/32]. */
export function affineBlockWeight(
  type: AffineBlockType,
  shape: readonly number[],
  codes: Uint8Array,
  scale: Uint8Array,
  shift?: Uint8Array,
): QuantizedWeight<AffineScheme> {
  const groups = [codes.length / AFFINE_BLOCK_SIZE]
  return {
    scheme: affineBlockScheme(type),
    shape,
    parts: {
      codes: rawTensor('U8', shape, codes),
      scale: rawTensor('F16', groups, scale),
      ...(shift && { shift: rawTensor('F16', groups, shift) }),
    },
  }
}

/** Blocks -> codes, scale (and shift). `blocks` holds a whole number of blocks of `type`. */
export function unpackAffineBlocks(
  type: AffineBlockType,
  shape: readonly number[],
  blocks: Uint8Array,
): QuantizedWeight<AffineScheme> {
  const { bits, shift: hasShift } = AFFINE_BLOCKS[type]
  const bytes = affineBlockBytes(type)
  const count = blocks.length / bytes
  const codes = new Uint8Array(count * AFFINE_BLOCK_SIZE)
  const scale = new Uint8Array(2 * count)
  const shift = hasShift ? new Uint8Array(2 * count) : undefined
  for (let b = 0; b < count; b++) {
    let at = b * bytes
    scale.set(blocks.subarray(at, (at += 2)), 2 * b)
    shift?.set(blocks.subarray(at, (at += 2)), 2 * b)
    const high = at
    if (bits === 5) at += 4
    for (let j = 0; j < 32; j++) {
      let code = bits === 8 ? blocks[at + j] ^ 0x80 : (blocks[at + (j & 15)] >> (j < 16 ? 0 : 4)) & 15
      if (bits === 5) code |= ((blocks[high + (j >> 3)] >> (j & 7)) & 1) << 4
      codes[b * 32 + j] = code
    }
  }
  return affineBlockWeight(type, shape, codes, scale, shift)
}

/** Reverses `unpackAffineBlocks`. */
export function packAffineBlocks(type: AffineBlockType, weight: QuantizedWeight): Uint8Array {
  const { bits, shift: hasShift } = AFFINE_BLOCKS[type]
  const bytes = affineBlockBytes(type)
  const codes = part(weight, 'codes').data
  const scale = part(weight, 'scale').data
  const shift = hasShift ? part(weight, 'shift').data : undefined
  if (scale.length * (AFFINE_BLOCK_SIZE / 2) !== codes.length)
    throw new BugError(`packAffineBlocks: ${scale.length / 2} scales for ${codes.length} codes of ${type}`)
  const count = codes.length / AFFINE_BLOCK_SIZE
  const blocks = new Uint8Array(count * bytes)
  for (let b = 0; b < count; b++) {
    let at = b * bytes
    blocks.set(scale.subarray(2 * b, 2 * b + 2), at)
    at += 2
    if (shift) {
      blocks.set(shift.subarray(2 * b, 2 * b + 2), at)
      at += 2
    }
    const high = at
    if (bits === 5) at += 4
    for (let j = 0; j < 32; j++) {
      const code = codes[b * 32 + j]
      if (bits === 8) blocks[at + j] = code ^ 0x80
      else blocks[at + (j & 15)] |= (code & 15) << (j < 16 ? 0 : 4)
      if (bits === 5) blocks[high + (j >> 3)] |= (code >> 4) << (j & 7)
    }
  }
  return blocks
}
