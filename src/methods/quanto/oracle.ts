// Quanto's optimisers for 2 and 4 bits (optimum-quanto 0.2.7): scale and shift from the range of a group, and the shift moved as HQQ moves
// its zero point, but with a growing beta and without keeping a step that is no better. Every operation is rounded to the weight's dtype.
import { roundTo } from '../../core/half.ts'
import type { QuantizerKernels } from '../../core/kernels.ts'
import { nearestEven } from '../groups.ts'
import { shrinkPower } from '../shrink.ts'
import { torchSum } from '../torch-sum.ts'

const { fround } = Math
const MAX_ITERATIONS = 20
const FIRST_BETA = 10
const KAPPA = 1.01
/** Below this a step gives 0 for every beta that occurs (up to 10 * 1.01^20 = 12.2: from 0.146). */
const SHRINK_FROM = 0.14

export type Arithmetic = 'F32' | 'F16' | 'BF16'

/** w ~ scale * q - shift, one of each a group. */
export interface ScaleShift {
  readonly scale: Float32Array
  readonly shift: Float32Array
}

/** Scale and shift of groups with these ranges. */
export function rangeOptimizer(low: Float32Array, high: Float32Array, max: number, dtype: Arithmetic): ScaleShift {
  return {
    scale: low.map((least, g) => roundTo(dtype, fround(roundTo(dtype, fround(high[g] - least)) / max))),
    shift: low.map((least) => -least),
  }
}

/** `start` with its shift moved until the mean error no longer falls. Groups are runs of `size` elements of `w`. */
export function hqqOptimizer(
  w: Float32Array,
  size: number,
  max: number,
  start: ScaleShift,
  dtype: Arithmetic,
): ScaleShift {
  const step = new Step(w, size, max, start.scale, dtype)
  let { shift } = start
  let beta = FIRST_BETA
  let best = step.restore(shift)
  for (let iteration = 0; iteration < MAX_ITERATIONS; iteration++) {
    const moved = step.next(beta)
    const error = step.restore(moved)
    if (!(error < best)) break
    best = error
    shift = moved
    beta *= KAPPA
  }
  return { scale: start.scale, shift }
}

const ARITHMETIC = { F32: 0, F16: 1, BF16: 2 } as const

/** As `hqqOptimizer`, compiled (native/kernels/quantize/quanto.cc). */
export async function runHqqOptimizer(
  kernels: QuantizerKernels,
  w: Float32Array,
  size: number,
  max: number,
  start: ScaleShift,
  dtype: Arithmetic,
): Promise<ScaleShift> {
  const groups = start.scale.length
  const bytes = 4 * groups
  const outputs = [bytes, bytes, w.byteLength, w.byteLength, w.length, 16].map((size) => ({ bytes: size }))
  const params = [groups, size, max, ARITHMETIC[dtype], FIRST_BETA, MAX_ITERATIONS]
  const [shift] = await kernels.run('fb_quanto_shift', [w, start.scale, start.shift], outputs, params)
  return { scale: start.scale, shift: new Float32Array(shift) }
}

/** One weight with the codes and errors of its present shift. */
class Step {
  private readonly w: Float32Array
  private readonly size: number
  private readonly max: number
  private readonly scale: Float32Array
  private readonly dtype: Arithmetic
  private readonly codes: Uint8Array
  /** w - restored. */
  private readonly errors: Float32Array

  constructor(w: Float32Array, size: number, max: number, scale: Float32Array, dtype: Arithmetic) {
    this.w = w
    this.size = size
    this.max = max
    this.scale = scale
    this.dtype = dtype
    this.codes = new Uint8Array(w.length)
    this.errors = new Float32Array(w.length)
  }

  private round(value: number): number {
    return roundTo(this.dtype, fround(value))
  }

  private mean(values: Float32Array): number {
    return this.round(fround(torchSum(values)) / values.length)
  }

  /** Codes and errors for `shift`; gives the mean magnitude of the errors. */
  restore(shift: Float32Array): number {
    const { w, size, max, scale } = this
    for (let i = 0; i < w.length; i++) {
      const g = Math.floor(i / size)
      const q = this.round(this.round(w[i] + shift[g]) / scale[g])
      const code = Number.isNaN(q) ? 0 : nearestEven(Math.min(Math.max(q, 0), max))
      this.codes[i] = code
      this.errors[i] = this.round(w[i] - this.round(this.round(code * scale[g]) - shift[g]))
    }
    return this.mean(this.errors.map(Math.abs))
  }

  /** The shift that suits the present codes and shrunk errors: the mean of scale * q - (w - e). */
  next(beta: number): Float32Array {
    const { w, size, scale, codes, errors } = this
    const inverse = fround(1 / beta)
    const terms = new Float32Array(size)
    return scale.map((s, g) => {
      for (let j = 0; j < size; j++) {
        const i = g * size + j
        terms[j] = this.round(this.round(codes[i] * s) - this.round(w[i] - this.shrink(errors[i], inverse)))
      }
      return this.mean(terms)
    })
  }

  /** sign(x) * max(|x| - |x|^-0.3 / beta, 0). */
  private shrink(x: number, inverse: number): number {
    const a = Math.abs(x)
    if (!(a > SHRINK_FROM)) return 0
    const rest = this.round(a - this.round(inverse * roundTo(this.dtype, shrinkPower(a))))
    return rest > 0 ? (x < 0 ? -rest : rest) : 0
  }
}
