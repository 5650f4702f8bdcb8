// Rows of logits against their targets: negative log-likelihood, and the divergence of two models. Sums are float64.
// The loops run over rows x vocabulary and touch nothing but typed arrays; a row of 49,152 logits takes about half a millisecond.

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
