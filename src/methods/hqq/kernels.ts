// The compiled quantiser of native/kernels/quantize/hqq.cc, called as its oracle is.
import { BugError, OutOfMemoryError } from '../../core/errors.ts'
import type { QuantizerKernels } from '../../core/kernels.ts'
import type { HqqSettings } from './config.ts'
import type { Layout } from './layout.ts'
import { type HqqResult, MAX_ITERATIONS, maxCodeOf } from './oracle.ts'

/** `problem` of the kernel's last output. */
const NOT_FINITE = 1
const OUT_OF_MEMORY = 2

/** The matrix whose groups the kernel takes: one group is one row, in whichever direction it runs. */
function matrixOf({ rows, columns, group }: Layout): [rows: number, columns: number, strided: boolean] {
  if (group.kind === 'tensor' || columns === 1) return [group.kind === 'flat' ? rows : 1, group.size, false]
  return [rows, columns, group.kind === 'strided']
}

/** As `quantizeGroups`; undefined where a weight is not finite. Throws OutOfMemoryError. */
export async function runGroups(
  kernels: QuantizerKernels,
  w: Float32Array,
  layout: Layout,
  settings: HqqSettings,
): Promise<HqqResult | undefined> {
  const [rows, columns, strided] = matrixOf(layout)
  const iterations = settings.optimize && settings.channelWise ? MAX_ITERATIONS : 0
  const meta = { bytes: 4 * layout.groups }
  const [codes, inverseScale, zero, state] = await kernels.run(
    'fb_hqq',
    [w],
    [{ bytes: w.length }, meta, meta, { bytes: 24 }],
    [rows, columns, Number(strided), maxCodeOf(settings.bits), Number(settings.roundZero), iterations],
  )
  const problem = new Float64Array(state)[2]
  if (problem === NOT_FINITE) return undefined
  if (problem === OUT_OF_MEMORY)
    throw new OutOfMemoryError(`Cannot quantise ${w.length} weights: no memory for the optimiser`, {
      weights: w.length,
    })
  if (problem !== 0) throw new BugError(`fb_hqq ended with problem ${problem}`)
  return {
    codes: new Uint8Array(codes),
    inverseScale: new Float32Array(inverseScale),
    zero: new Float32Array(zero),
  }
}
