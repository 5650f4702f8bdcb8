// Stored tensors of a Quanto linear, as optimum-quanto writes them: data, scale and shift of the weight under `P.weight.`, and the two
// scales of activations. quanto_qmap.json says which modules are quantised and how; group sizes follow from the shapes.
import { type DType, elementCount, isFloat, type RawTensor, rawTensor } from '../../core/dtypes.ts'
import { FileError } from '../../core/errors.ts'
import { fromFloat32, toFloat32 } from '../../core/half.ts'
import { FLOAT8, isSpecial } from '../../weights/float8.ts'
import { packCodes, packedShape, unpackCodes } from '../../weights/packing.ts'
import type { QuantizedInput, Scheme } from '../../weights/scheme.ts'
import { part, type QuantizedWeight } from '../../weights/weight.ts'
import { moduleOf } from '../skip.ts'
import type { NamedTensor, QuantizerKernels, StoredLayout, StoredReader, TensorInfo, TensorSpec } from '../types.ts'
import { QMAP_FILE, type Quanto, type QuantoSettings } from './config.ts'
import { groupSizeOf, inputTypeOf, type QType } from './qtypes.ts'
import { groupWeight, negated, quantize, rowWeight } from './quantize.ts'

type Reader = StoredReader<Quanto>
type Affine = Extract<QType, { kind: 'affine' }>
const FLOATS: readonly DType[] = ['F32', 'F16', 'BF16']

/** Rows and columns of the matrix whose rows share a scale. */
function matrixOf(qtype: Affine, shape: readonly number[]): [number, number] {
  const size = groupSizeOf(qtype, shape[1])
  return [elementCount(shape) / size, size]
}

const dataDtype = (qtype: Exclude<QType, Affine>): DType => (qtype.kind === 'int8' ? 'I8' : FLOAT8[qtype.table].dtype)
const activationScales = (name: string, dtype: DType): (TensorSpec & { readonly dtype: DType })[] =>
  ['input_scale', 'output_scale'].map((key) => ({ name: `${moduleOf(name)}.${key}`, dtype, shape: [] }))

function outputs(info: TensorInfo, { qtype }: QuantoSettings): TensorSpec[] | undefined {
  const { name, shape, dtype } = info
  if (!isFloat(dtype)) return undefined
  return [...weightSpecs(name, shape, dtype, qtype), ...activationScales(name, dtype)]
}

function weightSpecs(name: string, shape: readonly number[], dtype: DType, qtype: QType): TensorSpec[] {
  if (qtype.kind !== 'affine') {
    return [
      { name: `${name}._data`, dtype: dataDtype(qtype), shape },
      { name: `${name}._scale`, dtype, shape: shape[0] === 1 ? [] : [shape[0], 1] },
    ]
  }
  const [rows, columns] = matrixOf(qtype, shape)
  return [
    { name: `${name}._data._data`, dtype: 'U8', shape: packedShape(qtype.packing, rows, columns) },
    { name: `${name}._scale`, dtype, shape: [rows, 1] },
    { name: `${name}._shift`, dtype, shape: [rows, 1] },
  ]
}

async function write(
  name: string,
  weight: QuantizedWeight,
  { qtype }: QuantoSettings,
  kernels?: QuantizerKernels,
): Promise<NamedTensor[]> {
  const scale = part(weight, 'scale')
  const codes = part(weight, 'codes')
  const ones = fromFloat32(Float32Array.of(1), scale.dtype as 'F32')
  const scales = activationScales(name, scale.dtype).map((spec): NamedTensor => {
    const found = weight.parts[spec.name.endsWith('input_scale') ? 'inputScale' : 'outputScale']
    return { name: spec.name, tensor: found ? { ...found, shape: [] } : { ...spec, data: ones } }
  })
  if (qtype.kind !== 'affine') {
    const data = qtype.kind === 'int8' ? codes.data.map((code) => code ^ 0x80) : codes.data
    return [
      { name: `${name}._data`, tensor: rawTensor(dataDtype(qtype), weight.shape, data) },
      { name: `${name}._scale`, tensor: { ...scale, shape: weight.shape[0] === 1 ? [] : [weight.shape[0], 1] } },
      ...scales,
    ]
  }
  const [rows, columns] = matrixOf(qtype, weight.shape)
  const packed = await packCodes(qtype.packing, codes.data, rows, columns, { kernels })
  // The file of a weight of one row holds a scale for each column; all others one for each group.
  const metaShape = elementCount(scale.shape) === rows ? [rows, 1] : [1, elementCount(scale.shape)]
  return [
    { name: `${name}._data._data`, tensor: rawTensor('U8', packedShape(qtype.packing, rows, columns), packed) },
    { name: `${name}._scale`, tensor: { ...scale, shape: metaShape } },
    { name: `${name}._shift`, tensor: { ...shiftTensor(weight), shape: metaShape } },
    ...scales,
  ]
}

/** The file's shift is what is subtracted; an integer one is a zero point. */
function shiftTensor({ parts }: QuantizedWeight): RawTensor {
  if (parts.zeroPoint) return rawTensor('U8', parts.zeroPoint.shape, Uint8Array.from(toFloat32(parts.zeroPoint)))
  const { dtype, shape } = parts.shift
  return { dtype, shape, data: fromFloat32(negated(toFloat32(parts.shift)), dtype as 'F32') }
}

function fail(tensor: string, problem: string, fields: Record<string, unknown> = {}): never {
  const hint = `the file is damaged, or ${QMAP_FILE} belongs to another one: download or quantise it again`
  throw new FileError(`Cannot read "${tensor}": ${problem}`, { tensor, hint, ...fields })
}

/** The type of the weight: the map's, or that of a quantization_config where there is no map. */
function qtypeOf(name: string, { modules, settings }: Quanto): QType | null {
  return modules ? (modules.get(moduleOf(name))?.weights ?? null) : settings.qtype
}

/** How the module's input is quantised, likewise. */
function activationsOf(name: string, { modules, settings }: Quanto): QType | null {
  return modules ? (modules.get(moduleOf(name))?.activations ?? null) : settings.activations
}

const hasData = (name: string, reader: Reader) => reader.has(`${name}._data`) || reader.has(`${name}._data._data`)

function promised({ modules }: Quanto): string[] {
  return [...(modules ?? [])].filter(([, { weights }]) => weights).map(([module]) => `${module}.weight`)
}

/** A module of the map may lie in the file unquantised: it was saved before it was frozen. */
function isStored(name: string, reader: Reader): boolean {
  return hasData(name, reader) || Boolean(reader.config.modules && qtypeOf(name, reader.config))
}

function expectTensor(reader: Reader, name: string, dtypes: readonly DType[], shapes: readonly (readonly number[])[]) {
  if (!reader.has(name)) fail(name, 'it is missing, a Quanto weight needs it')
  const [dtype, shape] = [reader.dtypeOf(name) as DType, reader.shapeOf(name)!]
  const expected = `${dtypes.join(' or ')} ${shapes.map((s) => `[${s}]`).join(' or ')}`
  if (!dtypes.includes(dtype) || !shapes.some((s) => String(s) === String(shape)))
    fail(name, `it is ${dtype} [${shape}], expected ${expected}`, { actual: `${dtype} [${shape}]`, expected })
  return shape
}

async function readFinite(reader: Reader, name: string): Promise<RawTensor> {
  const tensor = await reader.read(name)
  const values = toFloat32(tensor)
  const at = values.findIndex((value) => !Number.isFinite(value))
  if (at >= 0) fail(name, `element ${at} is ${values[at]}`, { index: at, actual: values[at] })
  return tensor
}

async function read(name: string, shape: readonly number[], reader: Reader): Promise<QuantizedWeight> {
  const qtype = qtypeOf(name, reader.config)
  if (!qtype)
    fail(name, `it is stored quantised, but ${QMAP_FILE} does not name its module`, { module: moduleOf(name) })
  if (!hasData(name, reader)) return readUnfrozen(name, qtype, reader)
  const weight =
    qtype.kind === 'affine' ? await readGroups(name, shape, qtype, reader) : await readRows(name, shape, qtype, reader)
  const parts = { ...weight.parts, ...(await readActivationScales(name, reader)) }
  const activations = activationsOf(name, reader.config)
  if (!activations) return { ...weight, parts }
  return { ...weight, scheme: { ...weight.scheme, input: inputOf(name, activations, parts, reader) } as Scheme, parts }
}

/** How the input is quantised. The output never is: the reference stops that when it calibrates, and forgets so when it loads. */
function inputOf(
  name: string,
  activations: QType,
  { inputScale }: Readonly<Record<string, RawTensor>>,
  reader: Reader,
): QuantizedInput {
  const tensor = `${moduleOf(name)}.input_scale`
  if (!inputScale) fail(tensor, `it is missing, but ${QMAP_FILE} says that the module quantises its input`)
  const [scale] = toFloat32(inputScale)
  if (!(scale > 0)) fail(tensor, `it is ${scale}, expected a number above 0`, { actual: scale })
  if (scale === 1) reader.warn(`"${tensor}" is 1: the activations were never calibrated, results will be poor`)
  return { type: inputTypeOf(activations) }
}

/** Quantised as the reference does at every forward of such a module. */
async function readUnfrozen(name: string, qtype: QType, reader: Reader): Promise<QuantizedWeight> {
  if (!reader.has(name))
    fail(name, `${QMAP_FILE} names its module, but the file has neither "${name}._data" nor "${name}"`)
  reader.warn(`"${name}" was saved before its module was frozen: it is quantised to ${qtype.name} now`)
  const settings: QuantoSettings = { qtype, activations: null, optimizer: 'range', tinygemm: false }
  return quantize({ name, tensor: await reader.read(name), settings, kernels: reader.kernels, warn: reader.warn })
}

async function readRows(
  name: string,
  shape: readonly number[],
  qtype: Exclude<QType, Affine>,
  reader: Reader,
): Promise<QuantizedWeight> {
  expectTensor(reader, `${name}._data`, [dataDtype(qtype)], [shape])
  expectTensor(reader, `${name}._scale`, FLOATS, shape[0] === 1 ? [[], [1, 1]] : [[shape[0], 1]])
  const scale = { ...(await readFinite(reader, `${name}._scale`)), shape: [shape[0]] }
  const { data } = await reader.read(`${name}._data`)
  const codes =
    qtype.kind === 'int8'
      ? data.map((code) => code ^ 0x80)
      : repaired(name, data, toFloat32(scale), qtype.table, reader)
  return rowWeight(shape, qtype, rawTensor('U8', shape, codes), scale)
}

/** The reference stores NaN for a row of zeros (0 / 0): such codes become 0; any other NaN or infinity is refused. */
function repaired(
  name: string,
  data: Uint8Array,
  scale: Float32Array,
  table: Extract<QType, { kind: 'float8' }>['table'],
  reader: Reader,
): Uint8Array {
  const columns = data.length / scale.length
  const special = Uint8Array.from({ length: 256 }, (_, code) => Number(isSpecial(table, code)))
  let codes = data
  const rows = new Set<number>()
  for (let i = 0; i < data.length; i++) {
    if (special[data[i]] === 0) continue
    const row = Math.floor(i / columns)
    if (scale[row] !== 0)
      fail(`${name}._data`, `row ${row}, column ${i % columns} is NaN or infinite`, { row, actual: data[i] })
    if (codes === data) codes = data.slice()
    codes[i] = 0
    rows.add(row)
  }
  if (rows.size > 0)
    reader.warn(`"${name}": ${rows.size} rows with the scale 0 hold NaN, as the reference writes zeros: read as zeros`)
  return codes
}

async function readGroups(
  name: string,
  shape: readonly number[],
  qtype: Affine,
  reader: Reader,
): Promise<QuantizedWeight> {
  const [rows, columns] = matrixOf(qtype, shape)
  const packed = packedShape(qtype.packing, rows, columns)
  expectTensor(reader, `${name}._data._data`, ['U8'], [packed])
  // A weight of one row was reduced along the wrong axis: a scale of 0 and a shift for each column.
  const metaShapes =
    rows === 1
      ? [
          [1, 1],
          [1, columns],
        ]
      : [[rows, 1]]
  const metaShape = expectTensor(reader, `${name}._scale`, FLOATS, metaShapes)
  expectTensor(reader, `${name}._shift`, [...FLOATS, 'U8'], [metaShape])
  const scale = await readFinite(reader, `${name}._scale`)
  const words = (await reader.read(`${name}._data._data`)).data
  const codes = await unpackCodes(qtype.packing, words, rows, columns, reader.kernels)
  const groups = elementCount(metaShape)
  const flat = (tensor: RawTensor): RawTensor => ({ ...tensor, shape: [groups] })
  return groupWeight(shape, qtype, elementCount(shape) / groups, {
    codes: rawTensor('U8', shape, codes),
    scale: flat(scale),
    ...(await readShift(name, reader, groups)),
  })
}

async function readShift(name: string, reader: Reader, groups: number): Promise<Record<string, RawTensor>> {
  if (reader.dtypeOf(`${name}._shift`) === 'U8') {
    const { data } = await reader.read(`${name}._shift`)
    return { zeroPoint: rawTensor('F32', [groups], Float32Array.from(data)) }
  }
  const { dtype, ...tensor } = await readFinite(reader, `${name}._shift`)
  const values = negated(toFloat32({ dtype, ...tensor }))
  return { shift: { dtype, shape: [groups], data: fromFloat32(values, dtype as 'F32') } }
}

/** Scales of input and output; 1 where the module's activations are not quantised. */
async function readActivationScales(name: string, reader: Reader): Promise<Record<string, RawTensor>> {
  const parts: Record<string, RawTensor> = {}
  for (const [key, suffix] of [
    ['inputScale', 'input_scale'],
    ['outputScale', 'output_scale'],
  ]) {
    const tensor = `${moduleOf(name)}.${suffix}`
    if (!reader.has(tensor)) continue
    expectTensor(reader, tensor, FLOATS, [[]])
    parts[key] = { ...(await readFinite(reader, tensor)), shape: [1] }
  }
  return parts
}

async function readSettings(name: string, reader: Reader): Promise<QuantoSettings> {
  const { settings } = reader.config
  const qtype = qtypeOf(name, reader.config) ?? settings.qtype
  return { qtype, activations: activationsOf(name, reader.config), optimizer: 'range', tinygemm: false }
}

export const stored: StoredLayout<Quanto, QuantoSettings> = {
  suffixes: [
    '.weight._data',
    '.weight._data._data',
    '.weight._scale',
    '.weight._shift',
    '.input_scale',
    '.output_scale',
  ],
  write,
  outputs,
  isStored,
  promised,
  read,
  readSettings,
}
