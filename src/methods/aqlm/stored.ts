// Stored tensors of an AQLM linear: codes, codebooks and scales in place of `P.weight`. Codes of B bits are wrapped into the signed range
// of B bits. Everything that a file claims is checked before its bytes are read.
import { DTYPE_BYTES, type DType, elementCount, isFloat, type RawTensor, rawTensor } from '../../core/dtypes.ts'
import { FileError } from '../../core/errors.ts'
import { aligned, toFloat32 } from '../../core/half.ts'
import { additiveCodes } from '../../weights/additive.ts'
import type { AdditiveScheme } from '../../weights/scheme.ts'
import { part, type QuantizedWeight } from '../../weights/weight.ts'
import type { NamedTensor, StoredLayout, StoredReader } from '../types.ts'
import { type Aqlm, SKIP_KEY } from './config.ts'
import { skipEntry } from './plan.ts'
import type { AqlmSettings } from './quantize.ts'

type Reader = StoredReader<Aqlm>
const HINT = 'the file is damaged or incomplete: download or quantise it again'
const INTEGERS: readonly DType[] = ['I8', 'I16', 'I32', 'I64', 'U8', 'U16', 'U32']

const moduleName = (name: string) => name.replace(/\.weight$/, '')

/** Codes as the reference stores them: c >= 2^(B-1) becomes c - 2^B, in the smallest integer that holds B bits. */
function wrapCodes(codes: RawTensor, bits: number): RawTensor {
  const values = additiveCodes(codes)
  const half = 1 << (bits - 1)
  const signed = bits <= 8 ? new Int8Array(values.length) : new Int16Array(values.length)
  for (let i = 0; i < values.length; i++) signed[i] = values[i] >= half ? values[i] - (1 << bits) : values[i]
  return rawTensor(bits <= 8 ? 'I8' : 'I16', codes.shape, signed)
}

const INTEGER_ARRAYS = {
  I8: Int8Array,
  I16: Int16Array,
  I32: Int32Array,
  U8: Uint8Array,
  U16: Uint16Array,
  U32: Uint32Array,
}

/** Any integers -> codes 0..2^B-1. */
function unwrapCodes({ dtype, data, shape }: RawTensor, bits: number): RawTensor {
  // Of an I64 only the low word matters: 2^B divides 2^32.
  const step = dtype === 'I64' ? 2 : 1
  const type = INTEGER_ARRAYS[dtype === 'I64' ? 'I32' : (dtype as keyof typeof INTEGER_ARRAYS)]
  const values = aligned<InstanceType<typeof type>>(type, data)
  const mask = (1 << bits) - 1
  const count = values.length / step
  const codes = bits <= 8 ? new Uint8Array(count) : new Uint16Array(count)
  for (let i = 0; i < count; i++) codes[i] = values[i * step] & mask
  return rawTensor(bits <= 8 ? 'U8' : 'U16', shape, codes)
}

function write(name: string, weight: QuantizedWeight): NamedTensor[] {
  const scheme = weight.scheme as AdditiveScheme
  const module = moduleName(name)
  const scale = part(weight, 'scale')
  return [
    { name: `${module}.codebooks`, tensor: part(weight, 'codebooks') },
    { name: `${module}.codes`, tensor: wrapCodes(part(weight, 'codes'), scheme.bits) },
    { name: `${module}.scales`, tensor: { ...scale, shape: [elementCount(scale.shape), 1, 1, 1] } },
  ]
}

function fail(tensor: string, problem: string, fields: Record<string, unknown> = {}): never {
  throw new FileError(`Cannot read "${tensor}": ${problem}`, { tensor, hint: HINT, ...fields })
}

function expectTensor(
  reader: Reader,
  name: string,
  isDType: (dtype: string) => boolean,
  shape: readonly number[],
): void {
  if (!reader.has(name)) fail(name, 'it is missing, an AQLM weight needs it')
  const actual = reader.shapeOf(name)!
  if (String(actual) !== String(shape))
    fail(name, `its shape is [${actual.join(', ')}], expected [${shape.join(', ')}]`, { actual, expected: shape })
  const dtype = reader.dtypeOf(name)!
  if (!isDType(dtype)) fail(name, `it is ${dtype}`, { actual: dtype })
}

/** Floats as they stand; a NaN is refused, infinity is not. */
async function readFloats(reader: Reader, name: string, shape: readonly number[]): Promise<RawTensor> {
  expectTensor(reader, name, isFloat, shape)
  const tensor = await reader.read(name)
  const bad = toFloat32(tensor).findIndex((value) => Number.isNaN(value))
  if (bad >= 0) fail(name, `element ${bad} is NaN`, { index: bad })
  return tensor
}

/** [N/out, K/in, codebooks]; codes that a forward pass on the CPU has transposed in place before the file was written are put back. */
async function readCodes(reader: Reader, name: string, shape: readonly number[], bits: number): Promise<RawTensor> {
  const [rows, groups, codebooks] = shape
  const isTransposed = rows !== groups && String(reader.shapeOf(name)) === String([groups, rows, codebooks])
  expectTensor(
    reader,
    name,
    (dtype) => INTEGERS.includes(dtype as DType),
    isTransposed ? [groups, rows, codebooks] : shape,
  )
  const codes = unwrapCodes(await reader.read(name), bits)
  if (!isTransposed) return codes
  reader.warn(`"${name}" is stored transposed, as after a forward pass of aqlm on the CPU: it is put back in order`)
  const bytes = DTYPE_BYTES[codes.dtype] * codebooks
  const data = new Uint8Array(codes.data.length)
  for (let r = 0; r < rows; r++)
    for (let j = 0; j < groups; j++) {
      const from = (j * rows + r) * bytes
      data.set(codes.data.subarray(from, from + bytes), (r * groups + j) * bytes)
    }
  return rawTensor(codes.dtype, shape, data)
}

async function read(name: string, shape: readonly number[], reader: Reader): Promise<QuantizedWeight> {
  const { scheme, skip } = reader.config
  const { group, codebooks, bits } = scheme
  const module = moduleName(name)
  const [n, k] = shape
  if (n % group.out !== 0 || k % group.in !== 0)
    fail(name, `its shape [${shape.join(', ')}] does not divide into groups of ${group.out} x ${group.in}`, { shape })
  const entry = skipEntry(skip, module)
  if (entry !== undefined)
    reader.warn(`"${module}" is stored quantised although ${SKIP_KEY} names it (${JSON.stringify(entry)})`)
  const rows = n / group.out
  const scale = await readFloats(reader, `${module}.scales`, [rows, 1, 1, 1])
  return {
    scheme,
    shape,
    parts: {
      codes: await readCodes(reader, `${module}.codes`, [rows, k / group.in, codebooks], bits),
      codebooks: await readFloats(reader, `${module}.codebooks`, [codebooks, 2 ** bits, group.out, group.in]),
      scale: { ...scale, shape: [rows] },
    },
  }
}

export const stored: StoredLayout<Aqlm, AqlmSettings> = {
  suffixes: ['.codes', '.codebooks', '.scales'],
  write,
  isStored: (name, reader) => reader.has(`${moduleName(name)}.codes`),
  read,
  readSettings: async (_name, reader) => ({ scheme: reader.config.scheme, search: reader.config.search }),
}
