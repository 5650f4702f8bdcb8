// AWQ's arithmetic by the compiled kernels of native/kernels/quantize/awq.cc where there are any, else by its oracle.

import { roundTo } from '../../core/half.ts'
import type { QuantizerKernels } from '../../core/kernels.ts'
import {
  type Coded,
  type CodeSpec,
  clipSearch as clipOracle,
  finalCodes as finalOracle,
  maxCode,
  roundedNorm as normOracle,
  requantize as requantizeOracle,
  type SearchDtype,
  scaled as scaledOracle,
  weightSums as weightOracle,
} from './oracle.ts'

const ARITHMETIC = { F32: 0, F16: 1, BF16: 2 } as const
/** Of awq.h. */
const COLUMN_BLOCK = 64
const TILE_ROWS = 6
const TOKENS = 32
const ELEMENTS = 65536
const CLIP_VARIANTS = 11
/** Runs of rows that the clip search is shared in. */
const CLIP_UNITS = 64

type Kernels = QuantizerKernels | undefined

const NOTHING = new Float32Array(0)

function codeParams({ rows, columns, group, dtype, bits, symmetric }: CodeSpec): number[] {
  return [rows, columns, group, ARITHMETIC[dtype], maxCode({ bits, symmetric }), Number(symmetric)]
}

export async function requantize(
  w: Float32Array,
  scale: Float32Array | undefined,
  spec: CodeSpec,
  kernels: Kernels,
): Promise<Float32Array> {
  if (!kernels) return requantizeOracle(w, scale, spec)
  const params = [...codeParams(spec), Number(scale !== undefined), 0]
  const [out] = await kernels.run('fb_awq_requantize', [w, scale ?? NOTHING], [{ bytes: w.byteLength }], params)
  return new Float32Array(out)
}

/** `requantize` less w: what is lost. */
export async function requantizeError(
  w: Float32Array,
  scale: Float32Array,
  spec: CodeSpec,
  kernels: Kernels,
): Promise<Float32Array> {
  if (!kernels) return requantizeOracle(w, scale, spec).map((v, i) => v - w[i])
  const params = [...codeParams(spec), 1, 1]
  const [out] = await kernels.run('fb_awq_requantize', [w, scale], [{ bytes: w.byteLength }], params)
  return new Float32Array(out)
}

/** Numbers of awq.h. */
const SCALINGS = { 'multiply columns': 0, 'divide columns': 1, 'divide rows': 2 } as const

/** R(x * scale) or R(x / scale) for x [N, K], with a factor for each column or row. */
export async function scaled(
  x: Float32Array,
  scale: Float32Array,
  kind: keyof typeof SCALINGS,
  dtype: SearchDtype,
  kernels: Kernels,
): Promise<Float32Array> {
  if (!kernels) return scaledOracle(x, scale, kind, dtype)
  const columns = kind === 'divide rows' ? x.length / scale.length : scale.length
  const params = [x.length / columns, columns, ARITHMETIC[dtype], SCALINGS[kind]]
  const [out] = await kernels.run('fb_awq_scale', [x, scale], [{ bytes: x.byteLength }], params)
  return new Float32Array(out)
}

export async function weightSums(w: Float32Array, spec: CodeSpec, kernels: Kernels): Promise<Float64Array> {
  if (!kernels) return weightOracle(w, spec)
  const { rows, columns, group, dtype } = spec
  const params = [columns / group, rows, columns, group, ARITHMETIC[dtype]]
  const [sums] = await kernels.run('fb_awq_weight_sums', [w], [{ bytes: 8 * columns }], params)
  return new Float64Array(sums)
}

/** x [T, K] as the clip search wants it. */
export async function clipSearch(
  w: Float32Array,
  x: Float32Array,
  spec: CodeSpec,
  kernels: Kernels,
): Promise<Float32Array> {
  if (!kernels) return clipOracle(w, x, spec)
  const { rows, columns, group } = spec
  const tokens = x.length / columns
  const stride = Math.ceil(tokens / TOKENS) * TOKENS
  const perUnit = Math.ceil(rows / CLIP_UNITS)
  const units = Math.ceil(rows / perUnit)
  const outputs = [{ bytes: (4 * rows * columns) / group }, { bytes: 4 * units * CLIP_VARIANTS * group }]
  const inputs = [w, transposed(x, columns, stride)]
  const [best] = await kernels.run('fb_awq_clip', inputs, outputs, [
    units,
    perUnit,
    tokens,
    stride,
    ...codeParams(spec),
  ])
  return new Float32Array(best)
}

/** Few hundred tokens: x [T, K] as [K, stride]. */
function transposed(x: Float32Array, columns: number, stride: number): Float32Array {
  const out = new Float32Array(columns * stride)
  for (let t = 0; t * columns < x.length; t++)
    for (let i = 0; i < columns; i++) out[i * stride + t] = x[t * columns + i]
  return out
}

export async function finalCodes(
  w: Float32Array,
  clip: Float32Array | undefined,
  spec: CodeSpec,
  kernels: Kernels,
): Promise<Coded> {
  if (!kernels) return finalOracle(w, clip, spec)
  const groups = w.length / spec.group
  const outputs = [{ bytes: w.length }, { bytes: 4 * groups }, { bytes: groups }, { bytes: 8 * spec.rows }]
  const params = [...codeParams(spec), Number(clip !== undefined)]
  const [codes, scale, zero, flags] = await kernels.run('fb_awq_codes', [w, clip ?? NOTHING], outputs, params)
  const bad = new Float64Array(flags)
  const row = bad.findIndex((group) => group !== 0)
  const made = { codes: new Uint8Array(codes), scale: new Float32Array(scale), zero: new Uint8Array(zero) }
  return row < 0 ? made : { ...made, bad: (row * spec.columns) / spec.group + bad[row] - 1 }
}

/** x rounded to `dtype`. */
export async function rounded(x: Float32Array, dtype: SearchDtype, kernels: Kernels): Promise<Float32Array> {
  if (dtype === 'F32') return x
  if (!kernels) return x.map((v) => roundTo(dtype, v))
  const params = [Math.ceil(x.length / ELEMENTS), x.length, ARITHMETIC[dtype]]
  const [out] = await kernels.run('fb_round', [x], [{ bytes: x.byteLength }], params)
  return new Float32Array(out)
}

/** As the oracle's. */
export async function roundedNorm(
  x: Float32Array,
  weight: Float32Array,
  eps: number,
  dtype: SearchDtype,
  kernels: Kernels,
): Promise<Float32Array> {
  if (!kernels) return normOracle(x, weight, eps, dtype)
  const params = [x.length / weight.length, weight.length, eps, ARITHMETIC[dtype]]
  const [out] = await kernels.run('fb_awq_norm', [x, weight], [{ bytes: x.byteLength }], params)
  return new Float32Array(out)
}

/** Sum of (a - b)^2 over each run of `size` values. */
export async function squaredDistances(
  a: Float32Array,
  b: Float32Array,
  size: number,
  kernels: Kernels,
): Promise<Float64Array> {
  const units = Math.ceil(a.length / size)
  if (!kernels) {
    const found = new Float64Array(units)
    for (let i = 0; i < a.length; i++) found[Math.floor(i / size)] += (a[i] - b[i]) ** 2
    return found
  }
  const [sums] = await kernels.run('fb_squared_distance', [a, b], [{ bytes: 8 * units }], [units, a.length, size])
  return new Float64Array(sums)
}

/** Adds x^T x of x [T, K] to `sums` [K, K] and returns it. */
export async function addGram(
  x: Float32Array,
  columns: number,
  sums: Float64Array,
  kernels: Kernels,
): Promise<Float64Array> {
  if (!kernels) {
    for (let at = 0; at < x.length; at += columns)
      for (let i = 0; i < columns; i++) for (let j = 0; j < columns; j++) sums[i * columns + j] += x[at + i] * x[at + j]
    return sums
  }
  const params = [Math.ceil(columns / TILE_ROWS), x.length / columns, columns]
  const [out] = await kernels.run('fb_gram', [x], [{ bytes: sums.byteLength, initial: sums }], params)
  return new Float64Array(out)
}

/** Sum over the rows of d [N, K] of d h d^T, h [K, K] symmetric. */
export async function quadratic(d: Float32Array, h: Float32Array, columns: number, kernels: Kernels): Promise<number> {
  const rows = d.length / columns
  if (!kernels) {
    let sum = 0
    for (let r = 0; r < rows; r++)
      for (let i = 0; i < columns; i++)
        for (let j = 0; j < columns; j++) sum += d[r * columns + i] * h[i * columns + j] * d[r * columns + j]
    return sum
  }
  const units = Math.ceil(columns / COLUMN_BLOCK)
  const [sums] = await kernels.run('fb_quadratic', [d, h], [{ bytes: 8 * rows * units }], [units, rows, columns])
  return new Float64Array(sums).reduce((sum, v) => sum + v, 0)
}
