// QuantizedWeight -> what the kernels compute with: vectors as float32, matrices as tiles (native/kernels/linear/). Groups that do not
// follow rows are decoded to dense float32 first.
import { DTYPE_BYTES, elementCount, type RawTensor } from '../../core/dtypes.ts'
import { BugError } from '../../core/errors.ts'
import { toFloat32 } from '../../core/half.ts'
import { DECODE_TYPES, DECODE_UNIT, decodeCall, ZERO_KINDS } from '../../weights/decode-kernel.ts'
import { FLOAT8, isFloat8 } from '../../weights/float8.ts'
import { type InputType, inputOf } from '../../weights/quantized-input.ts'
import {
  type AdditiveScheme,
  type AffineScheme,
  groupsFollowRows,
  type LookupScheme,
  type SuperblockScheme,
} from '../../weights/scheme.ts'
import { E2M1_VALUES, IQ4_VALUES } from '../../weights/superblock/four-bits.ts'
import { gridOf } from '../../weights/superblock/grids.ts'
import { SUPERBLOCKS, type SuperblockType } from '../../weights/superblock/index.ts'
import { LOOKUP_TABLES } from '../../weights/tables.ts'
import { part, type QuantizedWeight } from '../../weights/weight.ts'
import { allocate } from './door.ts'
import { Blocks, type Jobs, sliced } from './jobs.ts'

/** A parameter in C++ memory. */
export interface PreparedParameter {
  /** A tiled weight, or float32 values of a vector. */
  readonly pointer: number
  readonly kind: 'matrix' | 'vector'
  /** False where the values are plain floats: those are never approximated. */
  readonly quantized: boolean
  readonly bytes: number
  /** LLM.int8: pointer to the row absmax [N], and the threshold. */
  readonly int8?: { readonly absmax: number; readonly threshold: number }
  /** Its input is quantised first, with one scale. */
  readonly input?: { readonly scale: number; readonly type: InputType }
}

const SCHEMES = { F32: 0, F16: 1, BF16: 2, affine: 3, lookup: 4, float8: 5, additive: 6, levels: 10 } as const
/** Superblocks whose values are levels, without a grid. */
const LEVELS: ReadonlySet<SuperblockType> = new Set(['Q3_K', 'IQ4_XS'])
/** Superblocks that have tiles of their own. */
const SUPERBLOCK_SCHEMES: Readonly<Partial<Record<SuperblockType, number>>> = { Q4_K: 7, Q5_K: 8, Q6_K: 9, Q2_K: 11 }

/** Superblocks that are table[code] * scale, or (code - zero) * scale, in groups of the size that tiles take. */
type Opened =
  | { readonly group: number; readonly table: Int8Array }
  | { readonly group: number; readonly bits: number; readonly zero: number }
const TRITS: Opened = { group: 256, bits: 2, zero: 1 }
const IQ4: Opened = { group: 32, table: IQ4_VALUES }
const OPENED: Readonly<Partial<Record<SuperblockType, Opened>>> = {
  IQ4_NL: IQ4,
  MXFP4: { group: 32, table: E2M1_VALUES },
  NVFP4: { group: 16, table: E2M1_VALUES },
  TQ1_0: TRITS,
  TQ2_0: TRITS,
  Q2_0: { group: 64, bits: 2, zero: 1 },
  Q1_0: { group: 128, bits: 1, zero: 0.5 },
}

/** Elements of a stored float tensor, and the units of fb_cast. */
export function widenUnits(tensor: RawTensor): { count: number; units: number } {
  const count = tensor.data.byteLength / DTYPE_BYTES[tensor.dtype]
  return { count, units: Math.ceil(count / DECODE_UNIT) }
}

/** The fields of linear.h's Source. */
interface Source {
  readonly scheme: number
  readonly bits?: number
  readonly group?: number
  readonly zero?: number
  readonly zeroPoint?: number
  readonly data: number
  readonly scale?: number
  readonly zeros?: number
  readonly table?: number
  readonly codebooks?: number
  readonly out?: number
  /** ggml's number of a block type, and the values of its grid. */
  readonly type?: number
  readonly grid?: number
  /** Of an 8-bit float: bits of the mantissa, bias of the exponent. */
  readonly mantissa?: number
  readonly bias?: number
}

/** The order in which fb_weight_new takes them. */
const SOURCE_FIELDS = [
  'bits',
  'group',
  'zero',
  'zeroPoint',
  'data',
  'scale',
  'zeros',
  'table',
  'codebooks',
  'out',
  'type',
  'grid',
  'mantissa',
  'bias',
] as const

/** Copies a weight into C++ memory in the form that kernels read. Throws OutOfMemoryError. */
export async function prepareWeight(
  jobs: Jobs,
  weight: QuantizedWeight,
  signal?: AbortSignal,
): Promise<PreparedParameter> {
  const blocks = new Blocks(jobs.door)
  try {
    const preparation = new Preparation(jobs, blocks, weight)
    if (weight.shape.length === 1) return await preparation.vector()
    return await preparation.matrix(signal)
  } finally {
    blocks.free()
  }
}

class Preparation {
  private readonly jobs: Jobs
  /** Freed when the tile is done. */
  private readonly blocks: Blocks
  private readonly weight: QuantizedWeight

  constructor(jobs: Jobs, blocks: Blocks, weight: QuantizedWeight) {
    this.jobs = jobs
    this.blocks = blocks
    this.weight = weight
  }

  async vector(): Promise<PreparedParameter> {
    const tensor = part(this.weight, 'values')
    const { count } = widenUnits(tensor)
    const pointer = allocate(this.jobs.door, count * 4)
    await this.widenInto(tensor, pointer)
    return { pointer, kind: 'vector', quantized: false, bytes: count * 4 }
  }

  async matrix(signal?: AbortSignal): Promise<PreparedParameter> {
    const [n, k] = this.weight.shape
    const source = await this.source()
    const { kernels } = this.jobs.door
    const fields = SOURCE_FIELDS.map((field) => source[field] ?? 0)
    const pointer = kernels.fb_weight_new(source.scheme, n, k, ...fields)
    if (pointer === 0) allocate(this.jobs.door, 4 * n * k)
    try {
      await sliced(kernels.fb_weight_panels(pointer), signal, (from, to) => kernels.fb_weight_tile(pointer, from, to))
    } catch (error) {
      kernels.fb_weight_free(pointer)
      throw error
    }
    const quantized = this.weight.scheme.kind !== 'dense'
    const int8 = await this.rowAbsmax()
    const input = this.quantizedInput()
    return { pointer, kind: 'matrix', quantized, bytes: kernels.fb_weight_bytes(pointer), int8, input }
  }

  private quantizedInput(): PreparedParameter['input'] {
    const input = inputOf(this.weight.scheme)
    if (!input) return undefined
    const [scale] = toFloat32(part(this.weight, 'inputScale'))
    return { scale, type: input.type }
  }

  private async rowAbsmax(): Promise<PreparedParameter['int8']> {
    const { scheme } = this.weight
    if (scheme.kind !== 'affine' || !scheme.activations) return undefined
    const tensor = part(this.weight, 'scb')
    const absmax = allocate(this.jobs.door, widenUnits(tensor).count * 4)
    await this.widenInto(tensor, absmax)
    return { absmax, threshold: scheme.activations.outlierThreshold }
  }

  private async source(): Promise<Source> {
    const { scheme, shape } = this.weight
    switch (scheme.kind) {
      case 'dense': {
        const values = part(this.weight, 'values')
        if (scheme.dtype === 'F64') return { scheme: SCHEMES.F32, data: await this.widened(values) }
        return { scheme: SCHEMES[scheme.dtype], data: this.blocks.takeFrom(values.data) }
      }
      case 'affine':
        return this.affine(scheme, shape)
      case 'lookup':
        return this.lookup(scheme, shape)
      case 'superblock':
        return this.superblock(scheme)
      case 'additive':
        return this.additive(scheme)
      default:
        return scheme satisfies never
    }
  }

  private async affine(scheme: AffineScheme, [n, k]: readonly number[]): Promise<Source> {
    const { group, zero: stored } = scheme
    if (group.kind !== 'tensor' && !groupsFollowRows(group, k)) return this.decoded()
    const data = this.blocks.takeFrom(part(this.weight, 'codes').data)
    const zero = typeof stored === 'number' ? ZERO_KINDS.constant : ZERO_KINDS[stored]
    const zeroPoint = typeof stored === 'number' ? stored : 0
    let scale = await this.widened(part(this.weight, 'scale'))
    let zeros = typeof stored === 'string' ? await this.widened(part(this.weight, stored)) : 0
    if (group.kind === 'tensor') {
      scale = this.repeated(scale, n)
      if (zeros) zeros = this.repeated(zeros, n)
    }
    const size = group.kind === 'tensor' ? k : group.size
    return { scheme: SCHEMES.affine, bits: scheme.bits, group: size, zero, zeroPoint, data, scale, zeros }
  }

  private async additive({ bits, codebooks, group }: AdditiveScheme): Promise<Source> {
    const data = this.blocks.takeFrom(part(this.weight, 'codes').data)
    const table = await this.widened(part(this.weight, 'codebooks'))
    const scale = await this.widened(part(this.weight, 'scale'))
    return { scheme: SCHEMES.additive, bits, group: group.in, data, scale, table, codebooks, out: group.out }
  }

  private async lookup(scheme: LookupScheme, [, k]: readonly number[]): Promise<Source> {
    const { group } = scheme
    if (!groupsFollowRows(group, k)) return this.decoded()
    const data = this.blocks.takeFrom(part(this.weight, 'codes').data)
    if (isFloat8(scheme.table)) {
      const { mantissa, bias } = FLOAT8[scheme.table]
      const scale = await this.scales(scheme)
      return { scheme: SCHEMES.float8, bits: 8, group: group.size, data, scale, mantissa, bias }
    }
    const table = this.blocks.takeFrom(LOOKUP_TABLES[scheme.table])
    return { scheme: SCHEMES.lookup, bits: 4, group: group.size, data, scale: await this.scales(scheme), table }
  }

  private async superblock({ type }: SuperblockScheme): Promise<Source> {
    const { id, grid } = SUPERBLOCKS[type]
    const scheme = SUPERBLOCK_SCHEMES[type]
    const opened = OPENED[type]
    if (opened) return this.opened(type, opened)
    const levels = LEVELS.has(type) || grid !== undefined
    if (scheme === undefined && !levels) return this.decoded()
    const data = this.blocks.takeFrom(part(this.weight, 'blocks').data)
    if (scheme !== undefined) return { scheme, data }
    return { scheme: SCHEMES.levels, data, type: id, grid: grid ? this.blocks.takeFrom(gridOf(grid).values) : 0 }
  }

  private async opened(type: SuperblockType, opened: Opened): Promise<Source> {
    const { group } = opened
    const { id, elements } = SUPERBLOCKS[type]
    const count = elementCount(this.weight.shape)
    const stored = this.blocks.takeFrom(part(this.weight, 'blocks').data)
    const data = this.blocks.take(count)
    const scale = this.blocks.take((4 * count) / group)
    const units = count / elements
    await this.jobs.run('fb_open_superblock', units, [stored, data, scale, units, id, group])
    if ('table' in opened) {
      const values = this.blocks.takeFrom(Float32Array.from(opened.table))
      return { scheme: SCHEMES.lookup, bits: 4, group, data, scale, table: values }
    }
    const { bits, zero: zeroPoint } = opened
    return { scheme: SCHEMES.affine, bits, group, zero: ZERO_KINDS.constant, zeroPoint, data, scale }
  }

  /** The values as floats: for what no tile holds. */
  private async decoded(): Promise<Source> {
    const call = decodeCall(this.weight, 'F32', toFloat32)
    const y = this.blocks.take(DTYPE_BYTES.F32 * call.params[1])
    const inputs = call.inputs.map((data) => this.blocks.takeFrom(data))
    await this.jobs.run(call.kernel, call.params[0], [...inputs, y, ...call.params])
    return { scheme: SCHEMES.F32, data: y }
  }

  /** Scales as float32, nested ones restored. */
  private async scales(scheme: LookupScheme): Promise<number> {
    const nestedCodes = this.weight.parts.scaleCodes
    if (!nestedCodes) return this.widened(part(this.weight, 'scale'))
    if (!scheme.nestedSize) throw new BugError('A lookup weight with nested scales lacks their group size')
    const count = nestedCodes.data.length
    const codes = this.blocks.takeFrom(nestedCodes.data)
    const nested = await this.widened(part(this.weight, 'nestedScale'))
    const table = await this.widened(part(this.weight, 'nestedTable'))
    const offset = await this.widened(part(this.weight, 'nestedOffset'))
    const y = this.blocks.take(4 * count)
    const units = Math.ceil(count / DECODE_UNIT)
    await this.jobs.run('fb_restore_scales', units, [codes, nested, table, offset, y, units, count, scheme.nestedSize])
    return y
  }

  /** The one float32 at `pointer`, n times. */
  private repeated(pointer: number, n: number): number {
    const one = new Float32Array(1)
    this.jobs.door.read(pointer, one)
    return this.blocks.takeFrom(new Float32Array(n).fill(one[0]))
  }

  private async widened(tensor: RawTensor): Promise<number> {
    if (tensor.dtype === 'F32') return this.blocks.takeFrom(tensor.data)
    const pointer = this.blocks.take(widenUnits(tensor).count * 4)
    await this.widenInto(tensor, pointer)
    return pointer
  }

  private async widenInto(tensor: RawTensor, pointer: number): Promise<void> {
    const type = DECODE_TYPES[tensor.dtype]
    if (type === undefined) throw new BugError(`Cannot widen ${tensor.dtype} to float32`, { dtype: tensor.dtype })
    const { count, units } = widenUnits(tensor)
    const x = this.blocks.takeFrom(tensor.data)
    await this.jobs.run('fb_cast', units, [x, pointer, units, count, type, 0])
  }
}
