// Rows of logits against their targets: negative log-likelihood, and the divergence of two models. Sums are float64.
// The plain functions are the definition; those with kernels hand the loops over rows x vocabulary to native/kernels/evaluate.
import type { QuantizerKernels } from '../core/kernels.ts'

/** Floats of logits that are copied to the kernels at a time: 16 MiB. */
const SLICE = 1 << 22

interface RowSums {
  /** log of the sum of exp(logit). */
  readonly logTotal: number
  /** Index of the first largest logit. */
  readonly top: number
}

function sums(logits: Float32Array, from: number, to: number): RowSums {
  let top = from
  let max = logits[from]
  for (let i = from + 1; i < to; i++) {
    const x = logits[i]
    if (x > max) {
      max = x
      top = i
    }
  }
  let sum = 0
  for (let i = from; i < to; i++) sum += Math.exp(logits[i] - max)
  return { logTotal: max + Math.log(sum), top: top - from }
}

/** -log softmax(row)[target] of each row of [R, V] logits, in nats. */
export function negativeLogLikelihoods(logits: Float32Array, targets: readonly number[]): Float64Array {
  const width = logits.length / targets.length
  return Float64Array.from(
    targets,
    (target, r) => sums(logits, r * width, (r + 1) * width).logTotal - logits[r * width + target],
  )
}

/** What one prediction says of two models. */
export interface Comparison {
  /** sum of p log(p / q): p of the baseline, q of the model, in nats. */
  readonly divergence: number
  readonly baselineNll: number
  readonly nll: number
  readonly sameTop: boolean
}

/** Compares rows of [R, V] logits of two models that predict the same targets. */
export function compareRows(baseline: Float32Array, model: Float32Array, targets: readonly number[]): Comparison[] {
  const width = baseline.length / targets.length
  return targets.map((target, r) => {
    const from = r * width
    const p = sums(baseline, from, from + width)
    const q = sums(model, from, from + width)
    let divergence = 0
    for (let i = from; i < from + width; i++) {
      const logP = baseline[i] - p.logTotal
      divergence += Math.exp(logP) * (logP - (model[i] - q.logTotal))
    }
    return {
      divergence: Math.max(0, divergence),
      baselineNll: p.logTotal - baseline[from + target],
      nll: q.logTotal - model[from + target],
      sameTop: p.top === q.top,
    }
  })
}

/** Runs `kernel` over rows of [R, V] arrays, a slice at a time; gives the `doubles` numbers of each row to `take`. */
async function byRows(
  kernels: QuantizerKernels,
  kernel: string,
  inputs: readonly Float32Array[],
  rows: number,
  doubles: number,
  take: (row: number, found: Float64Array) => void,
): Promise<void> {
  const width = inputs[0].length / rows
  const most = Math.max(1, Math.floor(SLICE / width))
  for (let from = 0; from < rows; from += most) {
    const count = Math.min(most, rows - from)
    const slices = inputs.map((logits) => logits.subarray(from * width, (from + count) * width))
    const [out] = await kernels.run(kernel, slices, [{ bytes: 8 * doubles * count }], [count, width])
    for (let r = 0; r < count; r++) take(from + r, new Float64Array(out, 8 * doubles * r, doubles))
  }
}

/** negativeLogLikelihoods by compiled kernels where there are some; equal to about 1e-15 of the value. */
export async function negativeLogLikelihoodsWith(
  kernels: QuantizerKernels | undefined,
  logits: Float32Array,
  targets: readonly number[],
): Promise<Float64Array> {
  if (!kernels || targets.length === 0) return negativeLogLikelihoods(logits, targets)
  const width = logits.length / targets.length
  const out = new Float64Array(targets.length)
  await byRows(kernels, 'fb_row_sums', [logits], targets.length, 3, (row, [largest, total]) => {
    out[row] = largest + Math.log(total) - logits[row * width + targets[row]]
  })
  return out
}

/** compareRows by compiled kernels where there are some; the divergence is equal to about 1e-13 nats. */
export async function compareRowsWith(
  kernels: QuantizerKernels | undefined,
  baseline: Float32Array,
  model: Float32Array,
  targets: readonly number[],
): Promise<Comparison[]> {
  if (!kernels || targets.length === 0) return compareRows(baseline, model, targets)
  const width = baseline.length / targets.length
  const out: Comparison[] = []
  await byRows(kernels, 'fb_compare_rows', [baseline, model], targets.length, 7, (row, found) => {
    const [largestP, totalP, topP, largestQ, totalQ, topQ, weighted] = found
    const logP = largestP + Math.log(totalP)
    const logQ = largestQ + Math.log(totalQ)
    const at = row * width + targets[row]
    // sum of p ((b - log P) - (m - log Q)), whose constants leave the sum
    const divergence = Math.max(0, weighted / totalP - logP + logQ)
    out.push({ divergence, baselineNll: logP - baseline[at], nll: logQ - model[at], sameTop: topP === topQ })
  })
  return out
}
