// Stored tensors of an AWQ linear: qweight, qzeros (or scaled_zeros) and scales in one of three layouts. What a file holds is told by its
// dtypes and shapes; everything that it claims is checked before it is used.
import { type RawTensor, rawTensor } from '../../core/dtypes.ts'
import { FileError } from '../../core/errors.ts'
import { fromFloat32, toFloat32 } from '../../core/half.ts'
import type { QuantizerKernels } from '../../core/kernels.ts'
import { PACKINGS, packCodes, unpackCodes } from '../../weights/packing.ts'
import type { AffineScheme } from '../../weights/scheme.ts'
import { part, type QuantizedWeight } from '../../weights/weight.ts'
import type { NamedTensor, StoredLayout, StoredReader, TensorInfo, TensorSpec } from '../types.ts'
import type { Awq, AwqSettings, AwqVersion } from './config.ts'
import { GEMM, isFast, layoutProblem, paddedGroups, specs } from './layouts.ts'

type Reader = StoredReader<Awq>
const { fround } = Math
const HINT = 'the file is damaged, or belongs to another model: download or quantise it again'
const moduleName = (name: string) => name.replace(/\.weight$/, '')

function outputs({ name, shape }: TensorInfo, settings: AwqSettings): TensorSpec[] {
  return specs(moduleName(name), shape, settings)
}

/** [rows, columns] -> [columns, rows], `to` columns wide where that is more (zeros). */
function transpose<T extends Float32Array | Uint8Array>(
  values: T,
  rows: number,
  columns: number,
  height: number = columns,
): T {
  const out = new (values.constructor as new (n: number) => T)(height * rows)
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) out[c * rows + r] = values[r * columns + c]
  return out
}

/** [rows, columns] with zeros behind each row up to `width`. */
function padded<T extends Float32Array | Uint8Array>(values: T, rows: number, columns: number, width: number): T {
  const out = new (values.constructor as new (n: number) => T)(rows * width)
  for (let r = 0; r < rows; r++) out.set(values.subarray(r * columns, (r + 1) * columns), r * width)
  return out
}

async function write(
  name: string,
  weight: QuantizedWeight,
  settings: AwqSettings,
  kernels?: QuantizerKernels,
): Promise<NamedTensor[]> {
  const [n, k] = weight.shape
  const { group, version } = settings
  const places = specs(moduleName(name), weight.shape, settings)
  const packed = await (version === 'gemm' ? gemmParts : version === 'gemv' ? gemvParts : fastParts)(
    weight,
    settings,
    kernels,
  )
  const half = toFloat32(part(weight, 'scale'))
  const groups = k / group
  const scales =
    version === 'gemv'
      ? padded(half, n, groups, paddedGroups(k, group))
      : transpose(half, n, groups, places[2].shape[0])
  const scaleDtype = part(weight, 'scale').dtype === 'BF16' ? 'BF16' : 'F16'
  return [
    {
      name: places[0].name,
      tensor: rawTensor(isFast(version) ? 'I16' : 'I32', places[0].shape, packed.weight),
    },
    { name: places[1].name, tensor: { ...packed.zeros, shape: places[1].shape } },
    { name: places[2].name, tensor: rawTensor(scaleDtype, places[2].shape, fromFloat32(scales, scaleDtype)) },
  ]
}

interface Parts {
  readonly weight: Uint8Array
  readonly zeros: RawTensor
}

const zerosOf = (weight: QuantizedWeight) => Uint8Array.from(toFloat32(part(weight, 'zeroPoint')))

async function gemmParts(
  weight: QuantizedWeight,
  { bits, group }: AwqSettings,
  kernels?: QuantizerKernels,
): Promise<Parts> {
  const [n, k] = weight.shape
  const zeros = await packCodes(GEMM[bits], zerosOf(weight), n, k / group, { kernels })
  const codes = await packCodes(GEMM[bits], part(weight, 'codes').data, n, k, { kernels })
  return { weight: codes, zeros: rawTensor('I32', [zeros.length / 4], zeros) }
}

async function gemvParts(weight: QuantizedWeight, { group }: AwqSettings, kernels?: QuantizerKernels): Promise<Parts> {
  const [n, k] = weight.shape
  const width = paddedGroups(k, group)
  const zeros = await packCodes(PACKINGS.awqGemv, padded(zerosOf(weight), n, k / group, width), n, width, { kernels })
  const codes = await packCodes(PACKINGS.awqGemv, part(weight, 'codes').data, n, k, { kernels })
  return { weight: codes, zeros: rawTensor('I32', [n, width / 8], zeros) }
}

/** Zeros are stored as shifts: -(scale * zero), float16 from float32. */
async function fastParts(weight: QuantizedWeight, { group }: AwqSettings, kernels?: QuantizerKernels): Promise<Parts> {
  const [n, k] = weight.shape
  const scale = toFloat32(part(weight, 'scale'))
  const { zero } = weight.scheme as AffineScheme
  const shift =
    zero === 'shift'
      ? toFloat32(part(weight, 'shift'))
      : toFloat32(part(weight, 'zeroPoint')).map((z, g) => -fround(scale[g] * z))
  const dtype = zero === 'shift' && part(weight, 'shift').dtype === 'BF16' ? 'BF16' : 'F16'
  const height = paddedGroups(k, group)
  const zeros = fromFloat32(transpose(shift, n, k / group, height), dtype)
  const codes = await packCodes(PACKINGS.awqGemvFast, part(weight, 'codes').data, n, k, { kernels })
  return { weight: codes, zeros: rawTensor(dtype, [height, n], zeros) }
}

function fail(tensor: string, problem: string, fields: Record<string, unknown> = {}): never {
  throw new FileError(`Cannot read "${tensor}" of an AWQ layer: ${problem}`, { tensor, hint: HINT, ...fields })
}

/** Which layout the tensors of a module have; square matrices of gemm and gemv are told apart by their scales. */
function layoutOf(module: string, [n, k]: readonly number[], group: number, reader: Reader): AwqSettings {
  const { bits, symmetric } = reader.config
  const name = `${module}.qweight`
  const dtype = reader.dtypeOf(name)
  const shape = reader.shapeOf(name) ?? []
  const layout = (version: AwqVersion) => ({ bits, group, version, symmetric })
  if (dtype === 'I16') return layout(reader.has(`${module}.scaled_zeros`) ? 'llm-awq' : 'gemv_fast')
  if (dtype !== 'I32') fail(name, `it is ${dtype}, expected I32 or I16`, { actual: dtype, expected: ['I32', 'I16'] })
  const fits = (version: AwqVersion) =>
    layoutProblem([n, k], layout(version)) === undefined &&
    specs(module, [n, k], layout(version)).every((spec) => String(reader.shapeOf(spec.name)) === String(spec.shape))
  const found = (['gemm', 'gemv'] as const).find((version) => (bits === 4 || version === 'gemm') && fits(version))
  if (found) return layout(found)
  const expected = specs(module, [n, k], layout('gemm')).map((spec) => spec.shape)
  const other = bits === 4 ? `, gemv [${n},${k / 8}]` : ''
  return fail(
    name,
    `its shape is [${shape}]; for [${n}, ${k}] at ${bits} bits in groups of ${group} gemm has [${expected[0]}]${other}, and scales to match`,
    { actual: shape, expected },
  )
}

function groupOf([, k]: readonly number[], name: string, { config }: Reader): number {
  const group = config.groupSize === -1 ? k : config.groupSize
  if (k % group !== 0) fail(name, `its ${k} inputs are no multiple of the group size ${group}`, { groupSize: group })
  return group
}

async function read(name: string, shape: readonly number[], reader: Reader): Promise<QuantizedWeight> {
  const module = moduleName(name)
  const group = groupOf(shape, name, reader)
  const layout = layoutOf(module, shape, group, reader)
  const { bits, version } = layout
  const problem = layoutProblem(shape, layout)
  if (problem) fail(`${module}.qweight`, problem)
  for (const spec of specs(module, shape, layout)) checkSpec(spec, version, reader)
  const [n, k] = shape
  const codes = await readCodes(module, n, k, layout, reader)
  const scale = await readScales(`${module}.scales`, n, k / group, version, reader)
  const zero = isFast(version) ? 'shift' : 'zeroPoint'
  const zeros =
    zero === 'zeroPoint'
      ? await readZeros(`${module}.qzeros`, n, k, layout, reader)
      : await readShifts(version === 'llm-awq' ? `${module}.scaled_zeros` : `${module}.qzeros`, n, k / group, reader)
  return {
    scheme: { kind: 'affine', bits, group: { kind: 'flat', size: group }, zero },
    shape,
    parts: { codes: rawTensor('U8', shape, codes), scale, [zero]: zeros },
  }
}

function checkSpec({ name, dtype, shape }: TensorSpec, version: AwqVersion, reader: Reader): void {
  if (!reader.has(name)) fail(name, 'it is missing')
  const actual = reader.dtypeOf(name)
  const isHalf = dtype === 'F16' && (actual === 'F16' || (actual === 'BF16' && isFast(version)))
  if (actual !== dtype && !isHalf) fail(name, `it is ${actual}, expected ${dtype}`, { actual, expected: dtype })
  const found = reader.shapeOf(name)
  if (String(found) !== String(shape))
    fail(name, `its shape is [${found}], expected [${shape}]`, { actual: found, expected: shape })
}

async function readCodes(
  module: string,
  n: number,
  k: number,
  { bits, version }: AwqSettings,
  reader: Reader,
): Promise<Uint8Array> {
  const packing = version === 'gemm' ? GEMM[bits] : version === 'gemv' ? PACKINGS.awqGemv : PACKINGS.awqGemvFast
  return unpackCodes(packing, (await reader.read(`${module}.qweight`)).data, n, k, reader.kernels)
}

/** Scales as [N, G] in the file's dtype; none may be zero or not finite, and the padding must be empty. */
async function readScales(
  name: string,
  n: number,
  groups: number,
  version: AwqVersion,
  reader: Reader,
): Promise<RawTensor> {
  const tensor = await reader.read(name)
  const all = toFloat32(tensor)
  const rows = version === 'gemv' ? unpadded(all, n, groups, name) : transposedBack(all, n, groups, name)
  const bad = rows.findIndex((value) => !Number.isFinite(value) || value === 0)
  if (bad >= 0)
    fail(name, `the scale of output ${Math.floor(bad / groups)}, group ${bad % groups}, is ${rows[bad]}`, {
      index: bad,
      actual: rows[bad],
    })
  const dtype = tensor.dtype === 'BF16' ? 'BF16' : 'F16'
  return rawTensor(dtype, [n * groups], fromFloat32(rows, dtype))
}

function unpadded<T extends Float32Array | Uint8Array>(all: T, n: number, groups: number, name: string): T {
  const width = all.length / n
  const out = new (all.constructor as new (n: number) => T)(n * groups)
  for (let r = 0; r < n; r++) {
    out.set(all.subarray(r * width, r * width + groups), r * groups)
    checkPadding(all.subarray(r * width + groups, (r + 1) * width), name)
  }
  return out
}

function transposedBack(all: Float32Array, n: number, groups: number, name: string): Float32Array {
  checkPadding(all.subarray(groups * n), name)
  return transpose(all.subarray(0, groups * n), groups, n)
}

function checkPadding(padding: Float32Array | Uint8Array, name: string): void {
  if (padding.some((value) => value !== 0)) fail(name, 'a value behind the last group is not zero')
}

async function readZeros(
  name: string,
  n: number,
  k: number,
  { bits, group, version }: AwqSettings,
  reader: Reader,
): Promise<RawTensor> {
  const { data } = await reader.read(name)
  const groups = k / group
  const zeros =
    version === 'gemm'
      ? await unpackCodes(GEMM[bits], data, n, groups, reader.kernels)
      : unpadded(await unpackCodes(PACKINGS.awqGemv, data, n, paddedGroups(k, group), reader.kernels), n, groups, name)
  return rawTensor('F16', [n * groups], fromFloat32(Float32Array.from(zeros), 'F16'))
}

async function readShifts(name: string, n: number, groups: number, reader: Reader): Promise<RawTensor> {
  const tensor = await reader.read(name)
  const rows = transposedBack(toFloat32(tensor), n, groups, name)
  const bad = rows.findIndex((value) => !Number.isFinite(value))
  if (bad >= 0) fail(name, `element ${bad} is ${rows[bad]}`, { index: bad, actual: rows[bad] })
  const dtype = tensor.dtype === 'BF16' ? 'BF16' : 'F16'
  return rawTensor(dtype, [n * groups], fromFloat32(rows, dtype))
}

/** The settings with which `write` gives the same tensors. */
async function readSettings(name: string, reader: Reader): Promise<AwqSettings> {
  const module = moduleName(name)
  const scales = reader.shapeOf(`${module}.scales`) ?? []
  const words = reader.shapeOf(`${module}.qweight`) ?? []
  const isFast = reader.dtypeOf(`${module}.qweight`) === 'I16'
  const isGemv = reader.config.bits === 4 && scales[0] === words[0] && scales[1] !== 8 * words[1]
  const shape = isFast ? [4 * words[0], words[1]] : isGemv ? [words[0], 8 * words[1]] : [scales[1], words[0]]
  return layoutOf(module, shape, groupOf(shape, name, reader), reader)
}

export const stored: StoredLayout<Awq, AwqSettings> = {
  suffixes: ['.qweight', '.qzeros', '.scales', '.scaled_zeros'],
  write,
  outputs,
  isStored: (name, reader) => reader.has(`${moduleName(name)}.qweight`),
  read,
  readSettings,
}
