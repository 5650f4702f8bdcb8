// Decoding a weight in compiled code: which kernel of native/kernels/decode.cc is called with what. The values are those of decode().
import { DTYPE_BYTES, elementCount, type FloatDType, type RawTensor, rawTensor, torchName } from '../core/dtypes.ts'
import { BugError } from '../core/errors.ts'
import { castTensor, refuseOverflow, toFloat32 } from '../core/half.ts'
import type { QuantizerKernels } from '../core/kernels.ts'
import { type Grouping, groupCount } from './scheme.ts'
import { gridOf } from './superblock/grids.ts'
import { SUPERBLOCKS, type SuperblockType } from './superblock/index.ts'
import { LOOKUP_TABLES } from './tables.ts'
import { denseWeight, part, type QuantizedWeight, restoreScales } from './weight.ts'

/** Elements of a unit of the decode kernels. */
export const DECODE_UNIT = 4096
/** Numbers that the kernels know float types by. */
export const DECODE_TYPES: Readonly<Partial<Record<string, number>>> = { F32: 0, F16: 1, BF16: 2, F64: 3 }
export const GROUP_KINDS: Readonly<Record<Grouping['kind'], number>> = { flat: 0, strided: 1, tensor: 2 }
export const ZERO_KINDS = { constant: 0, zeroPoint: 1, shift: 2 } as const

/** One call: its output has `params[1]` values of the type that its last parameter says. */
export interface DecodeCall {
  readonly kernel: string
  readonly inputs: readonly ArrayBufferView[]
  readonly params: readonly number[]
}

type Widen = (tensor: RawTensor) => ArrayBufferView

/** The call that gives all values of `weight` as `target`; `arithmetic` as in decode(). Small parts are widened by `widen`. */
export function decodeCall(
  weight: QuantizedWeight,
  target: FloatDType,
  widen: Widen,
  arithmetic: FloatDType = 'F32',
): DecodeCall {
  const { scheme, shape } = weight
  const count = elementCount(shape)
  const start = [Math.ceil(count / DECODE_UNIT), count]
  const to = typeNumber(target)
  switch (scheme.kind) {
    case 'dense':
      return {
        kernel: 'fb_cast',
        inputs: [part(weight, 'values').data],
        params: [...start, typeNumber(scheme.dtype), to],
      }
    case 'affine': {
      const codes = part(weight, 'codes').data
      if (scheme.activations)
        return {
          kernel: 'fb_decode_int8',
          inputs: [codes, widen(part(weight, 'scb'))],
          params: [...start, shape[1], to],
        }
      const { group, zero } = scheme
      const zeros = typeof zero === 'string' ? widen(part(weight, zero)) : new Float32Array(1)
      const kind = typeof zero === 'string' ? ZERO_KINDS[zero] : ZERO_KINDS.constant
      const number = typeof zero === 'number' ? zero : 0
      return {
        kernel: 'fb_decode_affine',
        inputs: [codes, widen(part(weight, 'scale')), zeros],
        params: [...start, ...groupParams(group, shape), kind, number, typeNumber(arithmetic), to],
      }
    }
    case 'lookup': {
      const scale = weight.parts.scaleCodes ? restoreScales(weight) : widen(part(weight, 'scale'))
      return {
        kernel: 'fb_decode_lookup',
        inputs: [part(weight, 'codes').data, scale, LOOKUP_TABLES[scheme.table]],
        params: [...start, ...groupParams(scheme.group, shape), to],
      }
    }
    case 'superblock':
      return {
        kernel: 'fb_decode_superblock',
        inputs: [part(weight, 'blocks').data, gridValues(scheme.type)],
        params: [...start, SUPERBLOCKS[scheme.type].id, to],
      }
    case 'additive': {
      const { codebooks, bits, group } = scheme
      return {
        kernel: 'fb_decode_additive',
        inputs: [part(weight, 'codes').data, widen(part(weight, 'codebooks')), widen(part(weight, 'scale'))],
        params: [...start, shape[1], codebooks, bits, group.out, group.in, typeNumber(arithmetic), to],
      }
    }
    default:
      return scheme satisfies never
  }
}

/** The rows that the codes of a type number; one zero where they number none. */
function gridValues(type: SuperblockType): Int8Array {
  const { grid } = SUPERBLOCKS[type]
  return grid ? gridOf(grid).values : new Int8Array(1)
}

function groupParams(group: Grouping, [n, k]: readonly number[]): number[] {
  return [GROUP_KINDS[group.kind], group.size, groupCount(group, n, k)]
}

function typeNumber(dtype: string): number {
  const number = DECODE_TYPES[dtype]
  if (number === undefined) throw new BugError(`The decode kernels do not know ${dtype}`, { dtype })
  return number
}

/** All values of `weight` as a tensor of `target`, decoded in compiled code: equal to fromFloat32(decode(weight, ...), target). */
export async function decodeWith(
  kernels: QuantizerKernels,
  weight: QuantizedWeight,
  target: FloatDType,
  arithmetic?: FloatDType,
): Promise<RawTensor> {
  const { kernel, inputs, params } = decodeCall(weight, target, (tensor) => kernels.toFloat32(tensor), arithmetic)
  const [bytes] = await kernels.run(
    kernel,
    inputs,
    [{ bytes: elementCount(weight.shape) * DTYPE_BYTES[target] }],
    params,
  )
  return rawTensor(target, weight.shape, new Uint8Array(bytes))
}

/**
 * The float tensor `name` in another dtype, in compiled code where there are kernels. Throws WeightError where a finite value is beyond
 * float16. `first`: number of its first element, for messages.
 */
export async function castWith(
  kernels: QuantizerKernels | undefined,
  name: string,
  tensor: RawTensor,
  target: FloatDType,
  first = 0,
): Promise<RawTensor> {
  if (!kernels || target === 'F64') return castTensor(name, tensor, target, first)
  const cast = await decodeWith(kernels, denseWeight(tensor), target)
  if (target === 'F16') refuseOverflow(name, torchName(tensor.dtype), () => toFloat32(tensor), cast.data, first)
  return cast
}
