// sum() of float32 tensors in torch's order on one thread (aten/src/ATen/native/cpu/SumKernel.cpp, cascade_sum): zeros and offsets that
// a reference stores depend on that order in their last bit. Every addition is one float32 rounding.

const { fround } = Math
/** Accumulator rows that a step fills side by side, and levels of the cascade. */
const ROWS = 4
const LEVELS = 4
/** Columns that a strided reduction adds side by side, row by row. */
const COLUMN_BLOCK = 32

/** Sum of contiguous `values`. */
export function torchSum(values: Float32Array): number {
  const lanes = values.length >= 8 ? 8 : 1
  const vectors = Math.floor(values.length / lanes)
  const sums = rowSum(values, vectors, lanes)
  let total = 0
  for (let i = vectors * lanes; i < values.length; i++) total = fround(total + values[i])
  for (const sum of sums) total = fround(total + sum)
  return total
}

/** Sums [columns] over the rows of `values` [rows, columns]. */
export function torchColumnSums(values: Float32Array, rows: number, columns: number): Float32Array {
  if (columns === 1) return Float32Array.of(torchSum(values)) // torch sees a contiguous reduction then
  const blocked = columns - (columns % COLUMN_BLOCK)
  const sums = new Float32Array(columns)
  if (blocked > 0) sums.set(cascade(values, rows, columns, blocked))
  if (blocked === columns) return sums
  const width = columns - blocked
  const rest = new Float32Array(rows * width)
  for (let r = 0; r < rows; r++) rest.set(values.subarray(r * columns + blocked, (r + 1) * columns), r * width)
  sums.set(rowSum(rest, rows, width), blocked)
  return sums
}

/** Sums [lanes] of `rows` runs of `lanes` values: four accumulators take every fourth run. */
function rowSum(values: Float32Array, rows: number, lanes: number): Float32Array {
  const steps = Math.floor(rows / ROWS)
  const sums = cascade(values, steps, ROWS * lanes, ROWS * lanes)
  const parts = Array.from({ length: ROWS }, (_, k) => sums.subarray(k * lanes, (k + 1) * lanes))
  for (let r = steps * ROWS; r < rows; r++) addInto(parts[0], values.subarray(r * lanes, (r + 1) * lanes))
  for (let k = 1; k < ROWS; k++) addInto(parts[0], parts[k])
  return parts[0]
}

/** Sums [width] of the first `width` of each of `rows` runs of `stride` values, through four levels. */
function cascade(values: Float32Array, rows: number, stride: number, width: number): Float32Array {
  const levelPower = Math.max(4, Math.floor(Math.ceil(Math.log2(Math.max(rows, 1))) / LEVELS))
  const levelRows = 2 ** levelPower
  const levels = Array.from({ length: LEVELS }, () => new Float32Array(width))
  const addRow = (i: number) => {
    for (let j = 0; j < width; j++) levels[0][j] += values[i * stride + j]
  }
  let i = 0
  while (i + levelRows <= rows) {
    for (let j = 0; j < levelRows; j++) addRow(i++)
    for (let level = 1; level < LEVELS; level++) {
      addInto(levels[level], levels[level - 1])
      levels[level - 1].fill(0)
      if ((i & ((levelRows - 1) << (level * levelPower))) !== 0) break
    }
  }
  while (i < rows) addRow(i++)
  for (let level = 1; level < LEVELS; level++) addInto(levels[0], levels[level])
  return levels[0]
}

function addInto(sum: Float32Array, values: Float32Array): void {
  for (let i = 0; i < sum.length; i++) sum[i] += values[i]
}
