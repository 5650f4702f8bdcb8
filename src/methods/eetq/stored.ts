// Stored tensors of an EETQ linear: `P.weight` int8 [K, N] in the byte order of a GPU kernel, and `P.weight_scales` [N]. No file says which
// of two orders it has: it is found from the codes, as rightly read every row holds one of 127 or -128.
import { rawTensor } from '../../core/dtypes.ts'
import { FileError } from '../../core/errors.ts'
import { fromFloat32, toFloat32 } from '../../core/half.ts'
import { type Packing, packCodes, packingUnit, unpackCodes } from '../../weights/packing.ts'
import { part, type QuantizedWeight } from '../../weights/weight.ts'
import type { NamedTensor, QuantizerKernels, StoredLayout, StoredReader, TensorInfo, TensorSpec } from '../types.ts'
import { ARRANGEMENTS, type Eetq, type EetqSettings } from './config.ts'
import { eetqWeight } from './quantize.ts'

type Reader = StoredReader<Eetq>
/** In a wrong order about 0.37 of the rows (1 / e) lack an extreme code. */
const MAX_ODD_ROWS = 0.1

const moduleName = (name: string) => name.slice(0, -'.weight'.length)
const scalesName = (name: string) => `${moduleName(name)}.weight_scales`
/** The package's own `eet_quantize` calls the weight `qweight`. */
const packedName = (name: string, reader: Reader) => (reader.has(name) ? name : `${moduleName(name)}.qweight`)

/** True where a weight [N, K] has the multiples that a byte order needs. */
export function fits(packing: Packing, [n, k]: readonly number[]): boolean {
  const unit = packingUnit(packing)
  return n % unit.rows === 0 && k % unit.columns === 0
}

function outputs({ name, shape: [n, k] }: TensorInfo): TensorSpec[] {
  return [
    { name, dtype: 'I8', shape: [k, n] },
    { name: scalesName(name), dtype: 'F16', shape: [n] },
  ]
}

async function write(
  name: string,
  weight: QuantizedWeight,
  { packing }: EetqSettings,
  kernels?: QuantizerKernels,
): Promise<NamedTensor[]> {
  const [n, k] = weight.shape
  const packed = await packCodes(packing, part(weight, 'codes').data, n, k, { kernels })
  return [
    { name, tensor: rawTensor('I8', [k, n], packed) },
    { name: scalesName(name), tensor: part(weight, 'scale') },
  ]
}

function fail(tensor: string, problem: string, fields: Record<string, unknown> = {}): never {
  const hint = 'the file is damaged, or was not written for EETQ: download or quantise it again'
  throw new FileError(`Cannot read "${tensor}": ${problem}`, { tensor, hint, ...fields })
}

function isStored(name: string, reader: Reader): boolean {
  return reader.dtypeOf(name) === 'I8' || stored.suffixes.some((suffix) => reader.has(moduleName(name) + suffix))
}

function checkPacked(name: string, [n, k]: readonly number[], reader: Reader): void {
  if (!reader.has(name)) fail(name, 'it is missing, while its scales are there')
  const [dtype, shape] = [reader.dtypeOf(name), String(reader.shapeOf(name))]
  if (dtype !== 'I8') fail(name, `it is ${dtype}, expected I8`, { actual: dtype, expected: 'I8' })
  const expected = String([k, n])
  const transposed = shape === String([n, k]) ? ': it is transposed, EETQ stores [in, out]' : ''
  if (shape !== expected)
    fail(name, `its shape is [${shape}], expected [${expected}]${transposed}`, { actual: shape, expected })
}

/** Scales [N] as float16. A model that was loaded in float32 was saved with float32 scales, which the kernels would misread. */
async function readScales(name: string, n: number, reader: Reader): Promise<Uint8Array> {
  if (!reader.has(name)) fail(name, 'it is missing, an EETQ weight needs it')
  const actual = `${reader.dtypeOf(name)} [${reader.shapeOf(name)}]`
  if (actual !== `F16 [${n}]` && actual !== `F32 [${n}]`)
    fail(name, `it is ${actual}, expected F16 [${n}]`, { actual, expected: `F16 [${n}]` })
  const values = toFloat32(await reader.read(name))
  const at = values.findIndex((value) => !(value >= 0 && value < Infinity))
  if (at >= 0)
    fail(name, `element ${at} is ${values[at]}, expected a finite number from 0 on`, { index: at, actual: values[at] })
  return fromFloat32(values, 'F16')
}

interface Unpacked {
  readonly packing: Packing
  readonly codes: Uint8Array
}

/** Share of the rows with a scale above 0 that lack both extreme codes: 0 where codes [N, K] are read rightly. */
function oddRows(codes: Uint8Array, scales: Float32Array, columns: number): number {
  let [rows, odd] = [0, 0]
  for (let n = 0; n < scales.length; n++) {
    if (scales[n] === 0) continue
    const row = codes.subarray(n * columns, (n + 1) * columns)
    rows++
    if (!row.includes(255) && !row.includes(0)) odd++
  }
  return rows === 0 ? 0 : odd / rows
}

/** Codes [N, K] in the byte order that gives the rows their extreme codes; the usual one where both do. */
async function unpack(name: string, shape: readonly number[], scales: Float32Array, reader: Reader): Promise<Unpacked> {
  const [n, k] = shape
  const { data } = await reader.read(name)
  const tried = Object.values(ARRANGEMENTS).filter((packing) => fits(packing, shape))
  let best: (Unpacked & { odd: number }) | undefined
  for (const packing of tried) {
    const codes = await unpackCodes(packing, data, n, k, reader.kernels)
    const odd = oddRows(codes, scales, k)
    if (!best || odd < best.odd) best = { packing, codes, odd }
    if (odd === 0) break
  }
  if (best && best.odd <= MAX_ODD_ROWS) return best
  const names = tried.map((packing) => packing.name)
  fail(
    name,
    `its bytes fit no order that EETQ writes (tried: ${names.join(' and ') || 'none'}): rows lack the code of their largest weight`,
    { shape, tried: names },
  )
}

async function readUnpacked(name: string, shape: readonly number[], reader: Reader) {
  const packed = packedName(name, reader)
  checkPacked(packed, shape, reader)
  const scale = await readScales(scalesName(name), shape[0], reader)
  return { scale, ...(await unpack(packed, shape, toFloat32(rawTensor('F16', [shape[0]], scale)), reader)) }
}

async function read(name: string, shape: readonly number[], reader: Reader): Promise<QuantizedWeight> {
  const { codes, scale } = await readUnpacked(name, shape, reader)
  return eetqWeight(shape, codes, scale)
}

async function readSettings(name: string, reader: Reader): Promise<EetqSettings> {
  const [k, n] = reader.shapeOf(packedName(name, reader)) ?? []
  const { packing } = await readUnpacked(name, [n, k], reader)
  return { packing, allowNonFinite: false }
}

export const stored: StoredLayout<Eetq, EetqSettings> = {
  suffixes: ['.weight_scales', '.qweight'],
  write,
  outputs,
  isStored,
  read,
  readSettings,
}
