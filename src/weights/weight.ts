// QuantizedWeight: the middle state of a weight (stored -> quantized -> prepared), and its plain decoder, the definition of its values.
import type { FloatDType, RawTensor } from '../core/dtypes.ts'
import { BugError } from '../core/errors.ts'
import { roundTo, toFloat32 } from '../core/half.ts'
import { decodeAdditive } from './additive.ts'
import { type AffineScheme, type Grouping, groupCount, type LookupScheme, type Scheme } from './scheme.ts'
import { decodeSuperblocks } from './superblock/index.ts'
import { LOOKUP_TABLES } from './tables.ts'

/** A weight [N rows out, K columns in] in one scheme. Parts keep the dtypes of the file. */
export interface QuantizedWeight<S extends Scheme = Scheme> {
  readonly scheme: S
  /** [N, K]; a vector (norm, bias) is dense with shape [N]. */
  readonly shape: readonly number[]
  readonly parts: Readonly<Record<string, RawTensor>>
}

/** Wraps a dense tensor; part `values`. */
export function denseWeight(tensor: RawTensor): QuantizedWeight {
  return {
    scheme: { kind: 'dense', dtype: tensor.dtype as FloatDType },
    shape: tensor.shape,
    parts: { values: tensor },
  }
}

/** The part called `name`. Throws BugError where the scheme promises a part that is not there. */
export function part(weight: QuantizedWeight, name: string): RawTensor {
  const found = weight.parts[name]
  if (!found) throw new BugError(`A ${weight.scheme.kind} weight lacks its part "${name}"`, { part: name })
  return found
}

/** Group index of flat element i. */
export function groupOf(group: Grouping, count: number, i: number): number {
  if (group.kind === 'flat') return Math.floor(i / group.size)
  return group.kind === 'strided' ? i % count : 0
}

/** Scales as float32 [G], nested ones restored with the reference's two roundings. */
export function restoreScales(weight: QuantizedWeight): Float32Array {
  if (!weight.parts.scaleCodes) return toFloat32(part(weight, 'scale'))
  const scheme = weight.scheme as LookupScheme
  const codes = weight.parts.scaleCodes.data
  const nested = toFloat32(part(weight, 'nestedScale'))
  const table = toFloat32(part(weight, 'nestedTable'))
  const offset = toFloat32(part(weight, 'nestedOffset'))[0]
  const out = new Float32Array(codes.length)
  const size = scheme.nestedSize!
  for (let i = 0; i < codes.length; i++) {
    out[i] = Math.fround(table[codes[i]] * nested[Math.floor(i / size)]) + offset
  }
  return out
}

function decodeAffine(
  weight: QuantizedWeight,
  scheme: AffineScheme,
  from: number,
  to: number,
  dtype: FloatDType,
): Float32Array {
  const codes = part(weight, 'codes').data
  const scale = toFloat32(part(weight, 'scale'))
  const zeros = typeof scheme.zero === 'string' ? toFloat32(part(weight, scheme.zero)) : undefined
  const constant = typeof scheme.zero === 'number' ? scheme.zero : 0
  const count = groupCount(scheme.group, weight.shape[0], weight.shape[1])
  const out = new Float32Array(to - from)
  for (let i = from; i < to; i++) {
    const g = groupOf(scheme.group, count, i)
    if (scheme.zero === 'shift') out[i - from] = roundTo(dtype, roundTo(dtype, codes[i] * scale[g]) + zeros![g])
    else out[i - from] = roundTo(dtype, roundTo(dtype, codes[i] - (zeros ? zeros[g] : constant)) * scale[g])
  }
  return out
}

/** LLM.int8: the row's absmax is multiplied in before the division by 127. */
function decodeRowAbsmax(weight: QuantizedWeight, from: number, to: number): Float32Array {
  const codes = part(weight, 'codes').data
  const scb = toFloat32(part(weight, 'scb'))
  const columns = weight.shape[1]
  const inverse127 = Math.fround(1 / 127)
  const out = new Float32Array(to - from)
  for (let i = from; i < to; i++)
    out[i - from] = Math.fround((codes[i] - 128) * scb[Math.floor(i / columns)]) * inverse127
  return out
}

function decodeLookup(weight: QuantizedWeight, scheme: LookupScheme, from: number, to: number): Float32Array {
  const codes = part(weight, 'codes').data
  const scale = restoreScales(weight)
  const table = LOOKUP_TABLES[scheme.table]
  const count = groupCount(scheme.group, weight.shape[0], weight.shape[1])
  const out = new Float32Array(to - from)
  for (let i = from; i < to; i++) out[i - from] = table[codes[i]] * scale[groupOf(scheme.group, count, i)]
  return out
}

/**
 * Values of the flat elements [from, to) as float32, one rounding an operation, as the method defines them.
 * `arithmetic` is the dtype in which the reference restores (HQQ: the compute dtype); F32 is what kernels compute with.
 */
export function decode(
  weight: QuantizedWeight,
  from = 0,
  to = weight.shape.reduce((a, b) => a * b, 1),
  arithmetic: FloatDType = 'F32',
): Float32Array {
  const { scheme } = weight
  switch (scheme.kind) {
    case 'dense':
      return toFloat32(part(weight, 'values')).subarray(from, to)
    case 'affine':
      return scheme.activations ? decodeRowAbsmax(weight, from, to) : decodeAffine(weight, scheme, from, to, arithmetic)
    case 'lookup':
      return decodeLookup(weight, scheme, from, to)
    case 'superblock':
      return decodeSuperblocks(scheme.type, part(weight, 'blocks').data, from, to)
    case 'additive':
      return decodeAdditive(scheme, weight.shape[1], weight.parts, from, to, arithmetic)
    default:
      return scheme satisfies never
  }
}
