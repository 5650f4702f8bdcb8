// Stored tensors of an HQQ linear: W_q, scale, zero and sixteen descriptions of them, in place of `P.weight`. The descriptions of each
// layer win over config.json. Everything that a file claims is checked before its bytes are read.
import {
  DTYPE_BYTES,
  type DType,
  elementCount,
  isFloat,
  type RawTensor,
  rawTensor,
  TORCH_DTYPES,
  torchName,
} from '../../core/dtypes.ts'
import { FileError } from '../../core/errors.ts'
import { aligned, toFloat32 } from '../../core/half.ts'
import { PACKINGS, type Packing, packCodes, packedShape, unpackCodes } from '../../weights/packing.ts'
import type { Scheme } from '../../weights/scheme.ts'
import { part, type QuantizedWeight } from '../../weights/weight.ts'
import type { NamedTensor, QuantizerKernels, StoredLayout, StoredReader } from '../types.ts'
import { type Hqq, type HqqSettings, PACKING_OF_BITS } from './config.ts'
import { type Layout, layoutOf, layoutProblem } from './layout.ts'
import { maxCodeOf } from './oracle.ts'
import { hqqScheme } from './quantize.ts'

type Reader = StoredReader<Hqq>
const HINT = 'the file is damaged or incomplete: download or quantise it again'
const PACKINGS_BY_NAME: ReadonlyMap<string, Packing> = new Map(
  [PACKINGS.hqq8, PACKINGS.hqq4, PACKINGS.hqq3, PACKINGS.hqq2, PACKINGS.hqq1].map((p) => [p.name, p]),
)
const COMPUTE_DTYPES = ['float32', 'float16', 'bfloat16'] as const
/** Longest text of a description. */
const MAX_TEXT = 64

const moduleName = (name: string) => name.replace(/\.weight$/, '')
const text = (value: string): RawTensor => rawTensor('U8', [value.length], new TextEncoder().encode(value))
const flag = (value: boolean): RawTensor => rawTensor('U8', [], Uint8Array.of(Number(value)))
const int32 = (value: number): RawTensor => rawTensor('I32', [], Int32Array.of(value))

/** `nbits` as the reference's encoder writes it: 1.58 is a Python float. */
const bitsTensor = (bits: number) =>
  Number.isInteger(bits) ? int32(bits) : rawTensor('F32', [], Float32Array.of(bits))

async function write(
  name: string,
  weight: QuantizedWeight,
  settings: HqqSettings,
  kernels?: QuantizerKernels,
): Promise<NamedTensor[]> {
  const layout = layoutOf(weight.shape, settings)
  const scale = part(weight, 'scale')
  const { packing } = settings
  const tensors: Record<string, RawTensor> = {
    W_q: await packedTensor(weight, layout, settings, kernels),
    scale: { ...scale, shape: layout.metaShape },
    zero: { ...part(weight, 'zeroPoint'), shape: layout.metaShape },
    shape: rawTensor('I64', [2], BigInt64Array.from(weight.shape, BigInt)),
    nbits: bitsTensor(settings.bits),
    group_size: int32(layout.groupSize),
    axis: int32(settings.axis),
    packing: text(packing.name),
    unpack_view_dtype: text(`torch.${viewDtype(packing)}`),
    compute_dtype: text(`torch.${torchName(scale.dtype)}`),
    view_as_float: flag(settings.viewAsFloat),
    quant_scale: flag(false),
    quant_zero: flag(false),
    offload_meta: flag(settings.offloadMeta),
    channel_wise: flag(settings.channelWise),
    optimize: flag(settings.optimize),
    round_zero: flag(settings.roundZero),
    encoded_state_dict: flag(true),
    stores_quant_config: flag(true),
  }
  return Object.entries(tensors).map(([key, tensor]) => ({ name: `${moduleName(name)}.${key}`, tensor }))
}

const viewDtype = (packing: Packing) => (packing.word === 'U8' ? 'uint8' : 'int32')

/** The packed codes; with view_as_float their bytes, untouched, under the compute dtype's name. */
async function packedTensor(
  weight: QuantizedWeight,
  layout: Layout,
  { packing, viewAsFloat }: HqqSettings,
  kernels?: QuantizerKernels,
): Promise<RawTensor> {
  const codes = part(weight, 'codes').data
  const data = await packCodes(packing, codes, layout.rows, layout.columns, { kernels })
  const carrier = viewAsFloat ? part(weight, 'scale').dtype : packing.word
  return { ...packedTensorSpec(packing, layout, carrier), data }
}

function packedTensorSpec(packing: Packing, layout: Layout, dtype: DType): { dtype: DType; shape: number[] } {
  const [rows, columns] = packedShape(packing, layout.rows, layout.columns)
  return { dtype, shape: [rows, (columns * DTYPE_BYTES[packing.word]) / DTYPE_BYTES[dtype]] }
}

function fail(tensor: string, problem: string, fields: Record<string, unknown> = {}): never {
  throw new FileError(`Cannot read "${tensor}": ${problem}`, { tensor, hint: HINT, ...fields })
}

function expectTensor(reader: Reader, name: string, dtypes: readonly DType[], shape: readonly number[]): DType {
  if (!reader.has(name)) fail(name, 'it is missing, an HQQ weight needs it')
  const dtype = reader.dtypeOf(name) as DType
  const actual = `${dtype} [${reader.shapeOf(name)}]`
  const expected = `${dtypes.join(' or ')} [${shape}]`
  if (!dtypes.includes(dtype) || String(reader.shapeOf(name)) !== String(shape))
    fail(name, `it is ${actual}, expected ${expected}`, { actual, expected })
  return dtype
}

/** A description of one number; one element in any shape is taken. */
async function readNumber(reader: Reader, name: string, dtypes: readonly DType[]): Promise<number> {
  if (!reader.has(name)) fail(name, 'it is missing, an HQQ weight needs it')
  const dtype = reader.dtypeOf(name) as DType
  const shape = reader.shapeOf(name)!
  if (!dtypes.includes(dtype) || elementCount(shape) !== 1)
    fail(name, `it is ${dtype} [${shape}], expected one ${dtypes.join(' or ')}`, { actual: dtype, expected: dtypes })
  const tensor = await reader.read(name)
  if (isFloat(dtype)) return toFloat32(tensor)[0]
  if (dtype === 'I64') return Number(aligned(BigInt64Array, tensor.data)[0])
  return dtype === 'I32' ? aligned(Int32Array, tensor.data)[0] : tensor.data[0]
}

async function readFlag(reader: Reader, name: string, initial: boolean): Promise<boolean> {
  if (!reader.has(name)) return initial
  const value = await readNumber(reader, name, ['U8', 'BOOL'])
  if (value > 1) fail(name, `it is ${value}, expected 0 or 1`, { actual: value })
  return value === 1
}

/** A description from a closed list. */
async function readText(reader: Reader, name: string, legal: readonly string[]): Promise<string> {
  if (!reader.has(name)) fail(name, 'it is missing, an HQQ weight needs it')
  const shape = reader.shapeOf(name)!
  if (reader.dtypeOf(name) !== 'U8' || shape.length !== 1 || shape[0] > MAX_TEXT)
    fail(name, `it is ${reader.dtypeOf(name)} [${shape}], expected at most ${MAX_TEXT} characters as U8`)
  const value = new TextDecoder().decode((await reader.read(name)).data)
  if (!legal.includes(value))
    fail(name, `it says ${JSON.stringify(value)}, expected ${legal.join(', ')}`, { actual: value, expected: legal })
  return value
}

/** `nbits`; a 1.58-bit layer that was loaded and saved says 1, so that the packing decides. */
async function readBits(reader: Reader, name: string, packing: Packing): Promise<number> {
  const value = await readNumber(reader, name, ['I32', 'I64', 'F32'])
  const bits = Math.fround(1.58) === value ? 1.58 : value
  const known = PACKING_OF_BITS.get(bits)
  if (known !== packing && !(bits === 1 && packing === PACKINGS.hqq2))
    fail(name, `${value} bits do not go with packing ${packing.name}`, { actual: value, packing: packing.name })
  return bits
}

/** What layer `name` (`P.weight`) says of itself. Throws FileError naming the tensor. */
async function readSettings(name: string, reader: Reader): Promise<HqqSettings> {
  const module = moduleName(name)
  const packing = PACKINGS_BY_NAME.get(await readText(reader, `${module}.packing`, [...PACKINGS_BY_NAME.keys()]))!
  const axis = await readNumber(reader, `${module}.axis`, ['I32', 'I64'])
  if (axis !== 0 && axis !== 1) fail(`${module}.axis`, `it is ${axis}, expected 0 or 1`, { actual: axis })
  const groupSize = await readNumber(reader, `${module}.group_size`, ['I32', 'I64'])
  if (!(groupSize > 0))
    fail(`${module}.group_size`, `it is ${groupSize}, expected a size above 0`, { actual: groupSize })
  for (const key of ['quant_scale', 'quant_zero'])
    if (await readFlag(reader, `${module}.${key}`, false))
      fail(`${module}.${key}`, 'scales or zeros are quantised themselves, as before hqq 0.2, which cannot be read', {
        hint: 'quantise the float model again',
      })
  const bits = await readBits(reader, `${module}.nbits`, packing)
  return {
    bits,
    packing,
    axis,
    groupSize,
    channelWise: await readFlag(reader, `${module}.channel_wise`, reader.shapeOf(`${module}.scale`)?.length !== 0),
    optimize: await readFlag(reader, `${module}.optimize`, true),
    roundZero: await readFlag(reader, `${module}.round_zero`, bits === 4),
    viewAsFloat: await readFlag(reader, `${module}.view_as_float`, false),
    offloadMeta: await readFlag(reader, `${module}.offload_meta`, false),
  }
}

function isStored(name: string, reader: Reader): boolean {
  return reader.has(`${moduleName(name)}.W_q`)
}

async function read(name: string, shape: readonly number[], reader: Reader): Promise<QuantizedWeight> {
  const module = moduleName(name)
  const settings = await readSettings(name, reader)
  await checkDescriptions(module, shape, settings, reader)
  const computeDtype = reader.dtypeOf(`${module}.scale`) as DType
  const problem = layoutProblem(shape, settings, computeDtype)
  if (problem) fail(`${module}.W_q`, problem, { shape })
  const layout = layoutOf(shape, settings)
  const scale = await readMeta(`${module}.scale`, layout, reader)
  const zeroPoint = await readMeta(`${module}.zero`, layout, reader)
  return {
    scheme: hqqScheme(settings, layout),
    shape,
    parts: { codes: rawTensor('U8', shape, await readCodes(module, layout, settings, reader)), scale, zeroPoint },
  }
}

/** Checks what is not needed to read the layer but must not contradict it. */
async function checkDescriptions(
  module: string,
  shape: readonly number[],
  { packing }: HqqSettings,
  reader: Reader,
): Promise<void> {
  expectTensor(reader, `${module}.shape`, ['I64'], [2])
  const stored = Array.from(aligned(BigInt64Array, (await reader.read(`${module}.shape`)).data), Number)
  if (String(stored) !== String(shape))
    fail(`${module}.shape`, `it says [${stored}], the model expects [${shape}]`, { actual: stored, expected: shape })
  if (reader.has(`${module}.unpack_view_dtype`))
    await readText(reader, `${module}.unpack_view_dtype`, [`torch.${viewDtype(packing)}`])
  if (reader.has(`${module}.compute_dtype`))
    await readText(
      reader,
      `${module}.compute_dtype`,
      COMPUTE_DTYPES.map((dtype) => `torch.${dtype}`),
    )
}

/** Scale or zero as [G] in the file's dtype. */
async function readMeta(name: string, layout: Layout, reader: Reader): Promise<RawTensor> {
  expectTensor(reader, name, ['F32', 'F16', 'BF16'], layout.metaShape)
  const tensor = await reader.read(name)
  const values = toFloat32(tensor)
  const bad = values.findIndex((value) => !Number.isFinite(value))
  if (bad >= 0) fail(name, `element ${bad} is ${values[bad]}`, { index: bad, actual: values[bad] })
  return { ...tensor, shape: [layout.groups] }
}

async function readCodes(module: string, layout: Layout, settings: HqqSettings, reader: Reader): Promise<Uint8Array> {
  const name = `${module}.W_q`
  const { packing, viewAsFloat, bits } = settings
  const carriers: readonly DType[] = viewAsFloat ? COMPUTE_DTYPES.map((dtype) => TORCH_DTYPES[dtype]) : [packing.word]
  const dtype = reader.dtypeOf(name) as DType
  expectTensor(
    reader,
    name,
    carriers,
    packedTensorSpec(packing, layout, carriers.includes(dtype) ? dtype : carriers[0]).shape,
  )
  const packed = (await reader.read(name)).data
  const codes = await unpackCodes(packing, packed, layout.rows, layout.columns, reader.kernels)
  const max = packing === PACKINGS.hqq8 ? maxCodeOf(bits) : 255 // other packings cannot hold more
  const bad = max === 255 ? -1 : codes.findIndex((code) => code > max)
  if (bad >= 0) fail(name, `code ${codes[bad]} of weight ${bad} does not fit ${bits} bits`, { index: bad })
  return codes
}

async function schemeOf(name: string, shape: readonly number[], reader: Reader): Promise<Scheme> {
  const settings = await readSettings(name, reader)
  return hqqScheme(settings, layoutOf(shape, settings))
}

export const stored: StoredLayout<Hqq, HqqSettings> = {
  suffixes: [
    '.W_q',
    '.scale',
    '.zero',
    '.shape',
    '.nbits',
    '.group_size',
    '.axis',
    '.packing',
    '.unpack_view_dtype',
    '.compute_dtype',
    '.view_as_float',
    '.quant_scale',
    '.quant_zero',
    '.offload_meta',
    '.channel_wise',
    '.optimize',
    '.round_zero',
    '.encoded_state_dict',
    '.stores_quant_config',
  ],
  write,
  isStored,
  read,
  schemeOf,
  readSettings,
}
