// sum() of a contiguous float32 tensor in torch's order on one thread (aten/src/ATen/native/cpu/SumKernel.cpp, cascade_sum): the mean of
// the scales, and with it the stored offset, depends on that order in its last bit.

const { fround } = Math
/** Accumulator rows that a step fills side by side, and levels of the cascade. */
const ROWS = 4
const LEVELS = 4

/** Sum of `values`, every addition rounded to float32 in torch's order. */
export function torchSum(values: Float32Array): number {
  const lanes = values.length >= 8 ? 8 : 1
  const vectors = Math.floor(values.length / lanes)
  const sums = cascade(values, vectors, lanes)
  let total = 0
  for (let i = vectors * lanes; i < values.length; i++) total = fround(total + values[i])
  for (const sum of sums) total = fround(total + sum)
  return total
}

/** Lane sums of the first `vectors` runs of `lanes` values. */
function cascade(values: Float32Array, vectors: number, lanes: number): Float32Array {
  const width = ROWS * lanes
  const steps = Math.floor(vectors / ROWS)
  const levelPower = Math.max(4, Math.floor(Math.ceil(Math.log2(Math.max(steps, 1))) / LEVELS))
  const levelStep = 2 ** levelPower
  const levels = Array.from({ length: LEVELS }, () => new Float32Array(width))
  const addStep = (i: number) => {
    for (let j = 0; j < width; j++) levels[0][j] += values[i * width + j]
  }
  let i = 0
  while (i + levelStep <= steps) {
    for (let j = 0; j < levelStep; j++) addStep(i++)
    for (let level = 1; level < LEVELS; level++) {
      addInto(levels[level], levels[level - 1])
      levels[level - 1].fill(0)
      if ((i & ((levelStep - 1) << (level * levelPower))) !== 0) break
    }
  }
  while (i < steps) addStep(i++)
  for (let level = 1; level < LEVELS; level++) addInto(levels[0], levels[level])
  const rows = Array.from({ length: ROWS }, (_, k) => levels[0].subarray(k * lanes, (k + 1) * lanes))
  for (let v = steps * ROWS; v < vectors; v++) addInto(rows[0], values.subarray(v * lanes, (v + 1) * lanes))
  for (let k = 1; k < ROWS; k++) addInto(rows[0], rows[k])
  return rows[0]
}

function addInto(sum: Float32Array, values: Float32Array): void {
  for (let i = 0; i < sum.length; i++) sum[i] += values[i]
}
