// What a stored weight *is*, independent of the method that made it and of the file that holds it.
// Few schemes, many methods: a scheme is a record of independent fields, sizes and block indices are functions of it.
import type { FloatDType } from '../core/dtypes.ts'
import type { Float8Name } from './float8.ts'
import type { SuperblockType } from './superblock/index.ts'

/** Plain floats, no quantisation. */
export interface DenseScheme {
  readonly kind: 'dense'
  readonly dtype: FloatDType
}

/**
 * How a scale (and zero) is shared. Element (n, k) has the flat index i = n*K + k.
 * - `flat`: runs of `size` neighbours in flat order (rows where size divides K; else groups may cross rows).
 * - `strided`: element i belongs to group i mod count, count = N*K/size (HQQ axis 0).
 * - `tensor`: one group.
 */
export interface Grouping {
  readonly kind: 'flat' | 'strided' | 'tensor'
  readonly size: number
}

/**
 * w = (q - zeroPoint) * scale, or q * scale + shift. Codes are unsigned 0..2^bits-1 (signed formats are stored with `zeroPoint` constant).
 * parts: codes U8 [N, K]; scale [G]; zeroPoint or shift [G] (absent when `zero` is a number).
 */
export interface AffineScheme {
  readonly kind: 'affine'
  /** Width of a code in a tile; 1.58-bit HQQ has bits 2 and maxCode 2. */
  readonly bits: 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8
  readonly group: Grouping
  /** A number: the same zero point for all groups (8 for Q4_0, 128 for int8). */
  readonly zero: number | 'zeroPoint' | 'shift'
  /**
   * Activations are quantised to int8 per row as part of the method (LLM.int8). Part `scb` F32 [N] is each row's absmax and defines the
   * values: fround(fround((q - 128) * scb) * fround(1 / 127)); `scale` = fround(scb * fround(1 / 127)) differs from it by a rounding.
   */
  readonly activations?: { readonly kind: 'int8'; readonly outlierThreshold: number }
  readonly input?: QuantizedInput
}

/** The linear's input is quantised with one scale that calibration found, part `inputScale` [1]: x becomes scale * nearest(x / scale). */
export interface QuantizedInput {
  readonly type: 'int8' | Float8Name
}

/** Tables of 16 values, and of 256. */
export type Table16 = 'nf4' | 'fp4'
export type LookupTable = Table16 | Float8Name

/**
 * w = table[q] * scale. parts: codes U8 [N, K]; scale [G], or nested: scaleCodes U8 [G], nestedScale F32 [ceil(G/nestedSize)],
 * nestedTable F32 [256], nestedOffset F32 [1]: scale_i = fround(fround(nestedTable[code_i] * nestedScale[i div nestedSize]) + nestedOffset).
 */
export interface LookupScheme {
  readonly kind: 'lookup'
  /** 4 for nf4 and fp4, 8 for the float8 types. */
  readonly bits: 4 | 8
  /** Name in LOOKUP_TABLES. */
  readonly table: LookupTable
  readonly group: Grouping
  readonly nestedSize?: number
  /** Dtype of the weight that was quantised: the reference restores to it, and its file names it. */
  readonly original?: FloatDType
  readonly input?: QuantizedInput
}

/** Blocks of GGUF (weights/superblock/ has the table of types); parts: blocks U8 [N, K/elements * bytes], exactly as in the file. */
export interface SuperblockScheme {
  readonly kind: 'superblock'
  readonly type: SuperblockType
}

/**
 * w[r * out + a][j * in + i] = scale[r] * sum over c of codebooks[c][codes[r, j, c]][a][i]: a group of `out` rows x `in` columns is the sum of
 * one entry of each codebook. parts: codes U8 (U16 above 8 bits) [N/out, K/in, codebooks]; codebooks [codebooks, 2^bits, out, in]; scale [N/out].
 */
export interface AdditiveScheme {
  readonly kind: 'additive'
  /** Width of a code: a codebook has 2^bits entries. 1 to 16. */
  readonly bits: number
  readonly codebooks: number
  readonly group: { readonly out: number; readonly in: number }
}

export type Scheme = DenseScheme | AffineScheme | LookupScheme | SuperblockScheme | AdditiveScheme

/** Number of groups of an [N, K] weight. */
export function groupCount(group: Grouping, n: number, k: number): number {
  return group.kind === 'tensor' ? 1 : Math.ceil((n * k) / group.size)
}

/** True where every group lies inside one row, the layout that fast kernels take. */
export function groupsFollowRows(group: Grouping, k: number): boolean {
  return group.kind === 'flat' && k % group.size === 0
}
