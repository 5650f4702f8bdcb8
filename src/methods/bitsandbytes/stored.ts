// Stored tensors of a bitsandbytes linear: packed 4-bit codes with absmax, tables and quant_state, or int8 rows with SCB.
// Everything that a file claims is checked before its bytes are read; damage that releases of the reference are known for is repaired.
import { DTYPE_BYTES, type DType, elementCount, rawTensor, TORCH_DTYPES } from '../../core/dtypes.ts'
import { FileError } from '../../core/errors.ts'
import { toFloat32 } from '../../core/half.ts'
import { PACKINGS, packCodes, unpackCodes } from '../../weights/packing.ts'
import type { LookupScheme, Table16 } from '../../weights/scheme.ts'
import { LOOKUP_TABLES } from '../../weights/tables.ts'
import { part, type QuantizedWeight } from '../../weights/weight.ts'
import type { NamedTensor, QuantizerKernels, StoredLayout, StoredReader } from '../types.ts'
import { type BitsAndBytes, type BitsAndBytesSettings, type Settings4bit, STORAGE_DTYPES } from './config.ts'
import { MAX_STATE_BYTES, type QuantState, readQuantState, writeQuantState } from './quant-state.ts'
import { int8Weight } from './quantize.ts'

const STATE = '.quant_state.bitsandbytes__'
const HINT = 'the file is damaged or incomplete: download or quantise it again'
type Reader = StoredReader<BitsAndBytes>

/** Code that fills half a byte where the number of codes is odd: that of 0. */
const PAD_CODE = { nf4: 7, fp4: 0 } as const

async function write(
  name: string,
  weight: QuantizedWeight,
  settings: BitsAndBytesSettings,
  kernels?: QuantizerKernels,
): Promise<NamedTensor[]> {
  return settings.kind === 'int8' ? writeInt8(name, weight) : write4bit(name, weight, settings, kernels)
}

async function write4bit(
  name: string,
  weight: QuantizedWeight,
  settings: Settings4bit,
  kernels?: QuantizerKernels,
): Promise<NamedTensor[]> {
  const scheme = weight.scheme as LookupScheme & { readonly table: Table16 }
  const packed = await packCodes(PACKINGS.bnb4, part(weight, 'codes').data, 1, elementCount(weight.shape), {
    padCode: PAD_CODE[scheme.table],
    kernels,
  })
  const offset = scheme.nestedSize ? toFloat32(part(weight, 'nestedOffset'))[0] : 0
  const state = writeQuantState({
    quantType: scheme.table,
    blockSize: scheme.group.size,
    dtype: scheme.original ?? 'F32',
    shape: weight.shape,
    nested: scheme.nestedSize ? { blockSize: scheme.nestedSize, offset } : undefined,
  })
  const shape = [packed.length / DTYPE_BYTES[settings.storage], 1]
  const nested = scheme.nestedSize
    ? [
        { name: `${name}.nested_absmax`, tensor: part(weight, 'nestedScale') },
        { name: `${name}.nested_quant_map`, tensor: part(weight, 'nestedTable') },
      ]
    : []
  return [
    { name, tensor: rawTensor(settings.storage, shape, packed) },
    { name: `${name}.absmax`, tensor: part(weight, scheme.nestedSize ? 'scaleCodes' : 'scale') },
    ...nested,
    { name: `${name}.quant_map`, tensor: rawTensor('F32', [16], LOOKUP_TABLES[scheme.table]) },
    { name: `${name}${STATE}${scheme.table}`, tensor: rawTensor('U8', [state.length], state) },
  ]
}

function writeInt8(name: string, weight: QuantizedWeight): NamedTensor[] {
  const module = moduleName(name)
  return [
    { name, tensor: rawTensor('I8', weight.shape, flipSigns(part(weight, 'codes').data)) },
    { name: `${module}.SCB`, tensor: part(weight, 'scb') },
    { name: `${module}.weight_format`, tensor: rawTensor('U8', [], Uint8Array.of(0)) },
  ]
}

/** Codes + 128 <-> int8, four at a time. */
function flipSigns(bytes: Uint8Array): Uint8Array {
  const words = new Uint32Array(Math.ceil(bytes.length / 4))
  const flipped = new Uint8Array(words.buffer, 0, bytes.length)
  flipped.set(bytes)
  for (let i = 0; i < words.length; i++) words[i] ^= 0x80808080
  return flipped
}

function moduleName(name: string): string {
  return name.slice(0, -'.weight'.length)
}

function fail(tensor: string, problem: string, fields: Record<string, unknown> = {}): never {
  throw new FileError(`Cannot read "${tensor}": ${problem}`, { tensor, hint: HINT, ...fields })
}

/** Throws FileError unless tensor `name` is there with this dtype and shape. */
function expectTensor(reader: Reader, name: string, dtype: DType, shape: readonly number[]): void {
  if (!reader.has(name)) fail(name, `it is missing, a bitsandbytes weight needs it`)
  const actual = `${reader.dtypeOf(name)} [${reader.shapeOf(name)}]`
  const expected = `${dtype} [${shape}]`
  if (actual !== expected) fail(name, `it is ${actual}, expected ${expected}`, { actual, expected })
}

async function readFinite(reader: Reader, name: string, shape: readonly number[]): Promise<Float32Array> {
  expectTensor(reader, name, 'F32', shape)
  return assertFinite(name, toFloat32(await reader.read(name)))
}

function assertFinite(name: string, values: Float32Array): Float32Array {
  const at = values.findIndex((value) => !Number.isFinite(value))
  if (at >= 0) fail(name, `element ${at} is ${values[at]}`, { index: at, actual: values[at] })
  return values
}

function isStored(name: string, reader: Reader): boolean {
  const module = moduleName(name)
  const dtype = reader.dtypeOf(name)
  return dtype === 'U8' || dtype === 'I8' || stored.suffixes.some((suffix) => reader.has(module + suffix))
}

async function read(name: string, shape: readonly number[], reader: Reader): Promise<QuantizedWeight> {
  if (!reader.has(name)) fail(name, 'it is missing, while tensors that belong to it are there')
  return reader.config.settings.kind === 'int8' ? readInt8(name, shape, reader) : read4bit(name, shape, reader)
}

async function readInt8(name: string, shape: readonly number[], reader: Reader): Promise<QuantizedWeight> {
  const { settings } = reader.config
  const module = moduleName(name)
  expectTensor(reader, name, 'I8', shape)
  await checkWeightFormat(`${module}.weight_format`, reader)
  const scb = await readFinite(reader, `${module}.SCB`, [shape[0]])
  const codes = flipSigns((await reader.read(name)).data)
  return int8Weight(shape, codes, scb, settings.kind === 'int8' ? settings.outlierThreshold : 0)
}

/** 0 (or nothing) means rows; 1, 2 and 3 were GPU tilings of old releases. */
async function checkWeightFormat(name: string, reader: Reader): Promise<void> {
  if (!reader.has(name)) return
  if (reader.dtypeOf(name) !== 'U8' || elementCount(reader.shapeOf(name)!) !== 1)
    fail(name, `it is ${reader.dtypeOf(name)} [${reader.shapeOf(name)}], expected one U8`)
  const format = (await reader.read(name)).data[0]
  if (format !== 0)
    fail(name, `format ${format} is a GPU tiling of an old release, expected 0 (rows)`, {
      actual: format,
      expected: 0,
      hint: 'load and save the model with a current release of bitsandbytes first',
    })
}

async function read4bit(name: string, shape: readonly number[], reader: Reader): Promise<QuantizedWeight> {
  const state = await readState(name, shape, reader)
  const count = elementCount(shape)
  checkPacked(name, Math.ceil(count / 2), reader)
  const groups = Math.ceil(count / state.blockSize)
  const scales = state.nested
    ? await readNested(name, groups, state.nested, reader)
    : { scale: rawTensor('F32', [groups], await readAbsmax(name, shape, state.blockSize, reader)) }
  await checkTable(name, state.quantType, reader)
  const codes = await unpackCodes(PACKINGS.bnb4, (await reader.read(name)).data, 1, count, reader.kernels)
  return {
    scheme: {
      kind: 'lookup',
      bits: 4,
      table: state.quantType,
      group: { kind: 'flat', size: state.blockSize },
      original: state.dtype,
      ...(state.nested && { nestedSize: state.nested.blockSize }),
    },
    shape,
    parts: { codes: rawTensor('U8', shape, codes), ...scales },
  }
}

async function readState(name: string, shape: readonly number[], reader: Reader): Promise<QuantState> {
  const names = [`${name}${STATE}nf4`, `${name}${STATE}fp4`].filter((n) => reader.has(n))
  if (names.length !== 1)
    fail(
      name,
      names.length === 0 ? `its quant_state "${name}${STATE}nf4" (or fp4) is missing` : 'it has two quant_states',
    )
  const [stateName] = names
  const length = elementCount(reader.shapeOf(stateName)!)
  if (reader.dtypeOf(stateName) !== 'U8' || length > MAX_STATE_BYTES)
    fail(
      stateName,
      `it is ${reader.dtypeOf(stateName)} with ${length} elements, expected at most ${MAX_STATE_BYTES} U8`,
    )
  const state = readQuantState((await reader.read(stateName)).data, stateName)
  if (!stateName.endsWith(state.quantType))
    fail(stateName, `"quant_type" is "${state.quantType}", the tensor's name says otherwise`, {
      actual: state.quantType,
    })
  if (String(state.shape) !== String(shape))
    fail(stateName, `"shape" is [${state.shape}], the model expects [${shape}]`, {
      actual: state.shape,
      expected: shape,
    })
  return state
}

/** The packed bytes may be carried by any storage dtype and shape; only their number counts. */
function checkPacked(name: string, bytes: number, reader: Reader): void {
  const dtype = reader.dtypeOf(name) as DType
  const actual = elementCount(reader.shapeOf(name)!) * DTYPE_BYTES[dtype]
  if (!STORAGE_DTYPES.some((storage) => TORCH_DTYPES[storage] === dtype))
    fail(name, `it is ${dtype}, packed codes are carried by ${STORAGE_DTYPES.join(', ')}`, { actual: dtype })
  if (actual !== bytes)
    fail(name, `it has ${actual} bytes of packed codes, expected ${bytes}`, { actual, expected: bytes })
}

/** Scales [groups] as float32. A repacked state that was saved by mistake (2-D, transposed, often BF16) is put right. */
async function readAbsmax(
  weightName: string,
  shape: readonly number[],
  blockSize: number,
  reader: Reader,
): Promise<Float32Array> {
  const name = `${weightName}.absmax`
  const groups = Math.ceil(elementCount(shape) / blockSize)
  const dtype = reader.dtypeOf(name)
  const stored = reader.shapeOf(name)
  if (dtype === 'F32' && stored?.length === 1) return readFinite(reader, name, [groups])
  const [rows, perRow] = [shape[0], shape[1] / blockSize]
  const isTransposed = String(stored) === String([perRow, rows])
  if ((dtype !== 'F32' && dtype !== 'BF16') || !(isTransposed || String(stored) === String([groups])))
    expectTensor(reader, name, 'F32', [groups])
  reader.warn(
    `"${name}" is ${dtype} [${stored}]: it was saved after a forward pass on a CPU, which rounds and transposes scales; the order is put right, the rounding stays`,
  )
  const values = assertFinite(name, toFloat32(await reader.read(name)))
  if (!isTransposed || stored?.length === 1) return Float32Array.from(values)
  return Float32Array.from({ length: groups }, (_, i) => values[(i % perRow) * rows + Math.floor(i / perRow)])
}

async function readNested(
  weightName: string,
  groups: number,
  nested: { readonly blockSize: number; readonly offset: number },
  reader: Reader,
): Promise<QuantizedWeight['parts']> {
  expectTensor(reader, `${weightName}.absmax`, 'U8', [groups])
  const superGroups = Math.ceil(groups / nested.blockSize)
  const nestedScale = await readFinite(reader, `${weightName}.nested_absmax`, [superGroups])
  const nestedTable = await readFinite(reader, `${weightName}.nested_quant_map`, [256])
  return {
    scaleCodes: await reader.read(`${weightName}.absmax`),
    nestedScale: rawTensor('F32', [superGroups], nestedScale),
    nestedTable: rawTensor('F32', [256], nestedTable),
    nestedOffset: rawTensor('F32', [1], Float32Array.of(nested.offset)),
  }
}

/** The file's table is not used, by nobody: a missing or different one is worth a warning. */
async function checkTable(weightName: string, type: 'nf4' | 'fp4', reader: Reader): Promise<void> {
  const name = `${weightName}.quant_map`
  if (!reader.has(name)) return reader.warn(`"${name}" is missing: the ${type} table is used`)
  const expected = rawTensor('F32', [16], LOOKUP_TABLES[type])
  const same =
    reader.dtypeOf(name) === 'F32' &&
    String(reader.shapeOf(name)) === '16' &&
    (await reader.read(name)).data.every((byte, i) => byte === expected.data[i])
  if (!same) reader.warn(`"${name}" differs from the ${type} table: the table is used, as every reader does`)
}

export const stored: StoredLayout<BitsAndBytes, BitsAndBytesSettings> = {
  suffixes: [
    '.weight.absmax',
    '.weight.quant_map',
    '.weight.nested_absmax',
    '.weight.nested_quant_map',
    `.weight${STATE}nf4`,
    `.weight${STATE}fp4`,
    '.SCB',
    '.weight_format',
  ],
  write,
  isStored,
  read,
}
