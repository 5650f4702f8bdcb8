// The quantiser of each type whose blocks are kept as they are in the file: block by block, for no sum crosses one.
import { BugError } from '../../core/errors.ts'
import { SUPERBLOCKS, type SuperblockType, superblockBytes } from '../../weights/superblock/index.ts'
import type { BlockQuantizer } from './block-quantizer.ts'
import { quantizeQ10, quantizeQ20, quantizeTq1, quantizeTq2 } from './quantize-few-bits.ts'
import { quantizeIq4Nl, quantizeIq4Xs, quantizeMxfp4, quantizeNvfp4 } from './quantize-four-bits.ts'
import { gridQuantizer } from './quantize-grid.ts'
import { quantizeIq1m, quantizeIq1s } from './quantize-iq1.ts'
import { quantizeQ2K, quantizeQ3K, quantizeQ4K, quantizeQ5K, quantizeQ6K } from './quantize-k.ts'

/** Types that can be read and are not here cannot be written. */
export const BLOCK_QUANTIZERS: Readonly<Partial<Record<SuperblockType, BlockQuantizer>>> = {
  Q2_K: quantizeQ2K,
  Q3_K: quantizeQ3K,
  Q4_K: quantizeQ4K,
  Q5_K: quantizeQ5K,
  Q6_K: quantizeQ6K,
  IQ4_NL: quantizeIq4Nl,
  IQ4_XS: quantizeIq4Xs,
  TQ1_0: quantizeTq1,
  TQ2_0: quantizeTq2,
  MXFP4: quantizeMxfp4,
  NVFP4: quantizeNvfp4,
  Q1_0: quantizeQ10,
  Q2_0: quantizeQ20,
  IQ2_XXS: gridQuantizer('IQ2_XXS'),
  IQ2_XS: gridQuantizer('IQ2_XS'),
  IQ2_S: gridQuantizer('IQ2_S'),
  IQ3_XXS: gridQuantizer('IQ3_XXS'),
  IQ3_S: gridQuantizer('IQ3_S'),
  IQ1_S: quantizeIq1s,
  IQ1_M: quantizeIq1m,
}

/** Types whose quantisers have no rule for a value's weight of their own. */
const NEED_IMPORTANCE: readonly string[] = ['IQ2_XXS', 'IQ2_XS', 'IQ1_S']

/** True where a tensor of the type cannot be made without importance, not even badly. */
export function needsImportance(type: string): boolean {
  return NEED_IMPORTANCE.includes(type)
}

/** Quantises rows [N, K], K a multiple of the block, to blocks in the file's layout. `importance`: one weight a column, or absent. */
export function quantizeSuperblocks(
  type: SuperblockType,
  x: Float32Array,
  columns: number,
  importance?: Float32Array,
): Uint8Array {
  const quantizeBlock = BLOCK_QUANTIZERS[type]
  if (!quantizeBlock) throw new BugError(`quantizeSuperblocks: ${type} has no quantiser`)
  const { elements } = SUPERBLOCKS[type]
  const bytes = superblockBytes(type)
  const out = new Uint8Array((x.length / elements) * bytes)
  for (let b = 0; b * elements < x.length; b++) {
    const at = b * elements
    const column = at % columns
    const weights = importance?.subarray(column, column + elements)
    quantizeBlock(x.subarray(at, at + elements), out.subarray(b * bytes, (b + 1) * bytes), weights)
  }
  return out
}
