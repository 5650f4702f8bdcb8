// The quantiser of one linear: start, then codebooks, scales and codes in turn until an epoch gains too little; the values of the file's
// dtype are settled before the last search. The definition that native/kernels/quantize/aqlm.cc is held to, bit for bit.
import type { FloatDType } from '../../core/dtypes.ts'
import { roundTo } from '../../core/half.ts'
import { CG_STEPS, improveCodebooks, improveScales } from './codebooks.ts'
import type { SearchSettings } from './config.ts'
import { energy, type Problem, residual, type State, sizesOf, timesH } from './problem.ts'
import { trainingPoints } from './random.ts'
import { searchCodes } from './search.ts'
import { start } from './start.ts'

export interface LinearResult extends State {
  /** sum of (R H) * R, and the same of the weight itself: their quotient is the relative error. */
  readonly error: number
  readonly energy: number
  readonly epochs: number
}

/** Largest finite half. */
const LARGEST_HALF = 65504

/** Inputs that hardly occur let an entry grow: in half precision it stays finite. */
function storedValue(dtype: FloatDType, value: number): number {
  return roundTo(dtype, dtype === 'F16' ? Math.max(-LARGEST_HALF, Math.min(LARGEST_HALF, value)) : value)
}

/** Quantises one linear; codebooks and scales have values of `dtype`. */
export function quantizeLinear(problem: Problem, search: SearchSettings, dtype: FloatDType): LinearResult {
  const { outs, ins } = sizesOf(problem)
  const points = trainingPoints(problem.scheme, outs * ins, search.initPointsPerCentroid, search.seed)
  const state = start(problem, points, search.initIterations)
  let best = Infinity
  let epochs = 0
  for (; ; epochs++) {
    const before = improveCodebooks(problem, state, CG_STEPS)
    improveScales(problem, state)
    if (epochs >= search.maxEpochs || before > (1 - search.tolerance) * best) break
    best = before
    searchCodes(problem, state, search.beamSize)
  }
  for (const values of [state.codebooks, state.scale])
    for (let i = 0; i < values.length; i++) values[i] = storedValue(dtype, values[i])
  searchCodes(problem, state, search.beamSize)
  const x = residual(problem, state)
  return {
    ...state,
    error: energy(problem, x, timesH(problem, x)),
    energy: energy(problem, problem.w, timesH(problem, problem.w)),
    epochs,
  }
}
