// The specification of every op: plain float32 storage, float64 accumulation, no tricks. Rows are [R, width], row-major.
import type { Activation, AttentionSpec } from '../../graph/types.ts'

/** y[r, n] = sum_k x[r, k] w[n, k] (+ bias[n]); the sum is float64, rounded once. */
export function linear(
  x: Float32Array,
  rows: number,
  w: Float32Array,
  n: number,
  k: number,
  bias: Float32Array | undefined,
): Float32Array {
  const y = new Float32Array(rows * n)
  for (let r = 0; r < rows; r++) {
    for (let j = 0; j < n; j++) {
      let sum = bias ? bias[j] : 0
      const xAt = r * k
      const wAt = j * k
      for (let i = 0; i < k; i++) sum += x[xAt + i] * w[wAt + i]
      y[r * n + j] = sum
    }
  }
  return y
}

/** x * rsqrt(mean(x^2) + eps) * w over runs of `size` values; Gemma's form multiplies by (1 + w). */
export function rmsNorm(x: Float32Array, w: Float32Array, size: number, eps: number, addOne: boolean): Float32Array {
  const y = new Float32Array(x.length)
  for (let at = 0; at < x.length; at += size) {
    let sum = 0
    for (let i = 0; i < size; i++) sum += x[at + i] * x[at + i]
    const scale = 1 / Math.sqrt(sum / size + eps)
    for (let i = 0; i < size; i++) y[at + i] = x[at + i] * scale * (addOne ? 1 + w[i] : w[i])
  }
  return y
}

/** (x - mean) / sqrt(variance + eps) * w + b over runs of `w.length` values; the variance is that of the run itself. */
export function layerNorm(x: Float32Array, w: Float32Array, b: Float32Array, eps: number): Float32Array {
  const size = w.length
  const y = new Float32Array(x.length)
  for (let at = 0; at < x.length; at += size) {
    let sum = 0
    for (let i = 0; i < size; i++) sum += x[at + i]
    const mean = sum / size
    let squares = 0
    for (let i = 0; i < size; i++) squares += (x[at + i] - mean) ** 2
    const scale = 1 / Math.sqrt(squares / size + eps)
    for (let i = 0; i < size; i++) y[at + i] = (x[at + i] - mean) * scale * w[i] + b[i]
  }
  return y
}

/** Rotates the first `rotary` values of each head: out = x cos + [-x2, x1] sin, halves paired. cos, sin: [R, rotary / 2]. */
export function rope(
  x: Float32Array,
  rows: number,
  width: number,
  headDim: number,
  rotary: number,
  cos: Float32Array,
  sin: Float32Array,
): Float32Array {
  const y = Float32Array.from(x)
  const half = rotary / 2
  for (let r = 0; r < rows; r++) {
    for (let head = 0; head < width; head += headDim) {
      const at = r * width + head
      for (let i = 0; i < half; i++) {
        const c = cos[r * half + i]
        const s = sin[r * half + i]
        y[at + i] = x[at + i] * c - x[at + half + i] * s
        y[at + half + i] = x[at + half + i] * c + x[at + i] * s
      }
    }
  }
  return y
}

/** Attention of one query row over keys and values [positions, kvHeads * headDim] from `first` to `last` inclusive. */
export function attend(
  q: Float32Array,
  keys: Float32Array,
  values: Float32Array,
  first: number,
  last: number,
  spec: AttentionSpec,
): Float32Array {
  const { heads, kvHeads, headDim, scale, softcap } = spec
  const out = new Float32Array(heads * headDim)
  const count = last - first + 1
  const scores = new Float64Array(count)
  for (let h = 0; h < heads; h++) {
    const kv = Math.floor(h / (heads / kvHeads)) * headDim
    let max = -Infinity
    for (let p = 0; p < count; p++) {
      let dot = 0
      const at = (first + p) * kvHeads * headDim + kv
      for (let i = 0; i < headDim; i++) dot += q[h * headDim + i] * keys[at + i]
      dot *= scale
      if (softcap) dot = Math.tanh(dot / softcap) * softcap
      scores[p] = dot
      if (dot > max) max = dot
    }
    let total = 0
    for (let p = 0; p < count; p++) total += scores[p] = Math.exp(scores[p] - max)
    for (let i = 0; i < headDim; i++) {
      let sum = 0
      for (let p = 0; p < count; p++) sum += scores[p] * values[(first + p) * kvHeads * headDim + kv + i]
      out[h * headDim + i] = sum / total
    }
  }
  return out
}

/** The error function to about 1e-16 (W. J. Cody's split is not needed at float32: series below 3, continued fraction above). */
function erf(x: number): number {
  const z = Math.abs(x)
  let result: number
  if (z < 3) {
    let term = z
    let sum = z
    for (let n = 1; n < 60; n++) {
      term *= (-z * z) / n
      sum += term / (2 * n + 1)
    }
    result = (2 / Math.sqrt(Math.PI)) * sum
  } else {
    let fraction = 0
    for (let n = 60; n > 0; n--) fraction = n / 2 / (z + fraction)
    result = 1 - Math.exp(-z * z) / ((z + fraction) * Math.sqrt(Math.PI))
  }
  return x < 0 ? -result : result
}

const ACTIVATIONS: Readonly<Record<Activation, (x: number) => number>> = {
  silu: (x) => x / (1 + Math.exp(-x)),
  gelu: (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
  gelu_tanh: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x * x * x))),
  relu: (x) => Math.max(x, 0),
}

export function activate(x: Float32Array, kind: Activation): Float32Array {
  return x.map(ACTIVATIONS[kind])
}
