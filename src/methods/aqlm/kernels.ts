// The compiled quantiser of native/kernels/quantize/aqlm.cc, called as its oracle is.
import type { FloatDType } from '../../core/dtypes.ts'
import { BugError, OutOfMemoryError } from '../../core/errors.ts'
import type { QuantizerKernels } from '../../core/kernels.ts'
import type { AdditiveScheme } from '../../weights/scheme.ts'
import { groupsOfBlock } from './codebooks.ts'
import type { SearchSettings } from './config.ts'
import type { LinearResult } from './oracle.ts'
import { type Problem, sizesOf } from './problem.ts'
import { trainingPoints } from './random.ts'

/** `problem` of the kernel's state. */
const OUT_OF_MEMORY = 1
const DTYPES: Readonly<Partial<Record<FloatDType, number>>> = { F32: 0, F16: 1, BF16: 2 }
/** Columns of a panel of H, and the floats that a block of scratch is rounded up to. */
const PANEL = 32
const BLOCK = 16
const BLOCKS = 17
/** Codebooks of so many entries are searched by leaves of so many, where a group has at most so many inputs. */
const LEAST_ENTRIES = 4096
const LEAF = 64
const MOST_WHITENED = 32

/** Whether most entries of a codebook are passed over unseen (aqlm-tree.inc). */
export const goesByLeaves = ({ bits, group }: AdditiveScheme): boolean =>
  2 ** bits >= LEAST_ENTRIES && group.in <= MOST_WHITENED

/** Floats of scratch: the sum of what lay_out of aqlm.cc takes. */
function scratchFloats(problem: Problem, points: number): number {
  const { rows, columns, scheme } = problem
  const { outs, ins, size, entries } = sizesOf(problem)
  const values = scheme.codebooks * entries * size
  const parts = 2 * Math.ceil(outs / groupsOfBlock(problem)) * values
  const packed = Math.ceil(columns / PANEL) * columns * PANEL
  const halves = ins * scheme.codebooks * entries
  const always = rows * columns + packed + halves + entries + parts + 4 * values + 2 * rows + points + BLOCKS * BLOCK
  const { codebooks: count, group } = scheme
  if (!goesByLeaves(scheme)) return always
  const leaves = entries / LEAF
  const boxes = ins * count * leaves * size * 2
  return always + 2 * count * entries + values + count * leaves + boxes + 2 * ins * (group.in ** 2 + 1)
}

/** As quantizeLinear. Throws OutOfMemoryError. */
export async function runLinear(
  kernels: QuantizerKernels,
  problem: Problem,
  search: SearchSettings,
  dtype: FloatDType,
): Promise<LinearResult> {
  const { rows, columns, scheme, w, h } = problem
  const { group, codebooks: count, bits } = scheme
  const { outs, ins, size, entries } = sizesOf(problem)
  const points = trainingPoints(scheme, outs * ins, search.initPointsPerCentroid, search.seed)
  const trained = points.length / count
  const scratch = scratchFloats(problem, trained)
  const params = [rows, columns, group.out, group.in, count, bits, trained, search.initIterations, search.beamSize]
  const [codes, codebooks, scale, state] = await kernels.run(
    'fb_aqlm',
    [w, h, points],
    [
      { bytes: 2 * outs * ins * count },
      { bytes: 4 * count * entries * size },
      { bytes: 4 * outs },
      { bytes: 8 * 13 },
      { bytes: 4 * scratch },
    ],
    [...params, search.maxEpochs, search.tolerance, DTYPES[dtype]!, scratch],
  )
  const [error, energy, epochs, problemNumber] = new Float64Array(state)
  if (problemNumber === OUT_OF_MEMORY)
    throw new OutOfMemoryError(`Cannot quantise [${rows}, ${columns}] weights: no memory for the optimiser`, {
      rows,
      columns,
    })
  if (problemNumber !== 0) throw new BugError(`fb_aqlm ended with problem ${problemNumber}`)
  return {
    codes: new Uint16Array(codes),
    codebooks: new Float32Array(codebooks),
    scale: new Float32Array(scale),
    error,
    energy,
    epochs,
  }
}
