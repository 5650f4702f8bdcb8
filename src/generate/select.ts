// Order and probability over a row of scores: first maximum, k largest, softmax. -Infinity marks what is out.

/** Index of the first largest value. */
export function argmax(values: ArrayLike<number>): number {
  let best = 0
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i
  return best
}

/** Indices of the `k` largest values, largest first, equal ones by index. */
export function largest(values: ArrayLike<number>, k: number): number[] {
  const count = Math.min(k, values.length)
  // A heap with the worst kept index on top.
  const heap: number[] = []
  const worse = (a: number, b: number) => values[a] < values[b] || (values[a] === values[b] && a > b)
  const down = (at: number) => {
    for (;;) {
      let least = at
      for (const child of [2 * at + 1, 2 * at + 2])
        if (child < heap.length && worse(heap[child], heap[least])) least = child
      if (least === at) return
      ;[heap[at], heap[least]] = [heap[least], heap[at]]
      at = least
    }
  }
  for (let i = 0; i < count; i++) heap.push(i)
  for (let i = (count >> 1) - 1; i >= 0; i--) down(i)
  if (count > 0) {
    for (let i = count; i < values.length; i++) {
      if (values[i] <= values[heap[0]]) continue
      heap[0] = i
      down(0)
    }
  }
  return heap.sort((a, b) => (worse(a, b) ? 1 : -1))
}

/** Indices that are still in. */
export function survivors(scores: Float32Array): number[] {
  const out: number[] = []
  for (let i = 0; i < scores.length; i++) if (scores[i] !== -Infinity) out.push(i)
  return out
}

/** log of the sum of exponentials, float64. */
export function logSumExp(values: ArrayLike<number>): number {
  let max = -Infinity
  for (let i = 0; i < values.length; i++) if (values[i] > max) max = values[i]
  if (max === -Infinity) return -Infinity
  let sum = 0
  for (let i = 0; i < values.length; i++) sum += Math.exp(values[i] - max)
  return max + Math.log(sum)
}

/** Probabilities of the scores at `indices`, in their order, float64. */
export function probabilities(scores: Float32Array, indices: readonly number[]): Float64Array {
  const out = Float64Array.from(indices, (i) => scores[i])
  const total = logSumExp(out)
  for (let i = 0; i < out.length; i++) out[i] = Math.exp(out[i] - total)
  return out
}
