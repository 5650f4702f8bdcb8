// The compiled quantisers of native/kernels/quantize/bnb.cc, called as their oracles in oracle.ts are.
import { CODE_ORDER, lookupBounds } from '../../weights/tables.ts'
import type { QuantizerKernels } from '../types.ts'
import { NESTED_BLOCK_SIZE } from './config.ts'
import { dynamicCodes, meanOf, type NestedAbsmax } from './oracle.ts'

/** As `quantize4bit`; the absmax of a block with NaN or infinity is not finite. */
export async function run4bit(
  kernels: QuantizerKernels,
  x: Float32Array,
  blockSize: number,
  type: 'nf4' | 'fp4',
): Promise<{ codes: Uint8Array; absmax: Float32Array }> {
  const blocks = Math.ceil(x.length / blockSize)
  const [codes, absmax] = await kernels.run(
    'fb_bnb_4bit',
    [x, lookupBounds(type), Uint8Array.from(CODE_ORDER[type])],
    [{ bytes: x.length }, { bytes: 4 * blocks }],
    [blocks, x.length, blockSize],
  )
  return { codes: new Uint8Array(codes), absmax: new Float32Array(absmax) }
}

/** As `quantizeAbsmax`. The mean is summed here: its order is sequential, and there are few scales. */
export async function runNested(kernels: QuantizerKernels, absmax: Float32Array): Promise<NestedAbsmax> {
  const offset = meanOf(absmax)
  const blocks = Math.ceil(absmax.length / NESTED_BLOCK_SIZE)
  const [codes, nested] = await kernels.run(
    'fb_bnb_nested',
    [absmax, dynamicCodes()],
    [{ bytes: absmax.length }, { bytes: 4 * blocks }],
    [blocks, absmax.length, NESTED_BLOCK_SIZE, offset],
  )
  return { codes: new Uint8Array(codes), nestedAbsmax: new Float32Array(nested), offset }
}

/** As `quantizeInt8`; the absmax of a row that overflows float16 or holds NaN is 65536. */
export async function runInt8(
  kernels: QuantizerKernels,
  x: Float32Array,
  rows: number,
): Promise<{ codes: Uint8Array; scb: Float32Array }> {
  const [codes, scb] = await kernels.run(
    'fb_bnb_int8',
    [x],
    [{ bytes: x.length }, { bytes: 4 * rows }],
    [rows, x.length / rows],
  )
  return { codes: new Uint8Array(codes), scb: new Float32Array(scb) }
}
