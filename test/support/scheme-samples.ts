// Seeded weights of every scheme, in every width, kind of zero and grouping that the scheme can have. A new kind of scheme does not compile
// before it has samples here; a new superblock type has them by its row in the table.
import { type DType, elementCount, type FloatDType, type RawTensor, rawTensor } from '../../src/core/dtypes.ts'
import { fromFloat32 } from '../../src/core/half.ts'
import { isFloat8, isSpecial } from '../../src/weights/float8.ts'
import { inputMax } from '../../src/weights/quantized-input.ts'
import {
  type AdditiveScheme,
  type AffineScheme,
  type Grouping,
  groupCount,
  type LookupTable,
  type Scheme,
} from '../../src/weights/scheme.ts'
import {
  decodeSuperblocks,
  SUPERBLOCKS,
  type SuperblockType,
  superblockBytes,
} from '../../src/weights/superblock/index.ts'
import { LOOKUP_TABLES } from '../../src/weights/tables.ts'
import type { QuantizedWeight } from '../../src/weights/weight.ts'
import { bellShaped, seeded, seedOf } from './random.ts'

export interface Sample {
  readonly name: string
  readonly weight: QuantizedWeight
}

type Shape = readonly [n: number, k: number]

const FLOATS: readonly FloatDType[] = ['F32', 'F16', 'BF16']
const WIDTHS = [1, 2, 3, 4, 5, 6, 7, 8] as const

/** Values of about `size`, in `dtype`. */
function floats(name: string, shape: readonly number[], dtype: FloatDType, size = 1): RawTensor {
  const values = bellShaped(elementCount(shape), size, seedOf(name))
  return { dtype, shape, data: fromFloat32(values, dtype) }
}

/** Scales are positive and away from zero. */
function scales(name: string, shape: readonly number[], dtype: FloatDType, size: number): RawTensor {
  const random = seeded(seedOf(name))
  const values = Float32Array.from({ length: elementCount(shape) }, () => size * (0.5 + random()))
  return { dtype, shape, data: fromFloat32(values, dtype) }
}

function codes(name: string, shape: readonly number[], below: number, dtype: DType = 'U8'): RawTensor {
  const random = seeded(seedOf(name))
  const next = () => Math.floor(random() * below)
  const length = elementCount(shape)
  return rawTensor(
    dtype,
    shape,
    dtype === 'U8' ? Uint8Array.from({ length }, next) : Uint16Array.from({ length }, next),
  )
}

/** Groupings of affine and lookup weights that a shape allows. */
function groupings([n, k]: Shape): readonly (readonly [string, Grouping])[] {
  const all: [string, Grouping][] = [
    ['groups of 8', { kind: 'flat', size: 8 }],
    ['groups of 16', { kind: 'flat', size: 16 }],
    ['groups of 32', { kind: 'flat', size: 32 }],
    ['groups of 64', { kind: 'flat', size: 64 }],
    ['whole rows', { kind: 'flat', size: k }],
    ['a row and a half', { kind: 'flat', size: (3 * k) / 2 }],
    ['two rows', { kind: 'flat', size: 2 * k }],
    ['strided', { kind: 'strided', size: n }],
    ['strided over part of a column', { kind: 'strided', size: n / 2 }],
    ['one for the tensor', { kind: 'tensor', size: n * k }],
  ]
  return all.filter(([, { kind, size }]) => Number.isInteger(size) && (kind === 'tensor' || (n * k) % size === 0))
}

function dense(shape: Shape): Sample[] {
  return [...FLOATS, 'F64' as const].map((dtype) => {
    const values = dtype === 'F64' ? float64(`dense ${shape}`, shape) : floats(`dense ${shape}`, shape, dtype)
    return { name: `dense ${dtype}`, weight: { scheme: { kind: 'dense', dtype }, shape, parts: { values } } }
  })
}

function float64(name: string, shape: Shape): RawTensor {
  return rawTensor('F64', shape, Float64Array.from(bellShaped(elementCount(shape), 1, seedOf(name))))
}

function affine(shape: Shape): Sample[] {
  const samples: Sample[] = []
  for (const bits of WIDTHS) {
    for (const [i, zero] of ([2 ** (bits - 1), 'zeroPoint', 'shift'] as const).entries()) {
      for (const [j, [grouping, group]] of groupings(shape).entries()) {
        const name = `affine ${bits} bit, ${typeof zero === 'number' ? 'constant zero' : zero}, ${grouping}`
        samples.push({
          name,
          weight: affineWeight(name, shape, { kind: 'affine', bits, group, zero }, FLOATS[(bits + i + j) % 3]),
        })
      }
    }
  }
  return [...samples, ...rowAbsmax(shape), ...quantizedInputs(shape)]
}

/** Inputs that the method quantises: codes of every kind of digits, and groups that take a piece. */
function quantizedInputs(shape: Shape): Sample[] {
  const groups = new Map(groupings(shape))
  const kinds = [
    [4, 'shift', 'groups of 32', 'int8'],
    [8, 128, 'whole rows', 'int8'],
    [2, 'shift', 'whole rows', 'int8'],
    [5, 'zeroPoint', 'groups of 8', 'int8'],
    [3, 'shift', 'groups of 16', 'int8'],
    [8, 128, 'whole rows', 'e4m3fn'],
    [4, 'shift', 'whole rows', 'e5m2'],
    [2, 'shift', 'groups of 32', 'e4m3fnuz'],
  ] as const
  return kinds.flatMap(([bits, zero, grouping, type]) => {
    const group = groups.get(grouping)
    if (!group) return []
    const name = `affine ${bits} bit, ${grouping}, ${type} input`
    const { parts, scheme } = affineWeight(name, shape, { kind: 'affine', bits, group, zero, input: { type } }, 'F32')
    // Values of about 1, up to 4: some are beyond the largest code.
    const inputScale = rawTensor('F32', [1], Float32Array.of(3 / inputMax(type)))
    return [{ name, weight: { scheme, shape, parts: { ...parts, inputScale } } }]
  })
}

function affineWeight(name: string, shape: Shape, scheme: AffineScheme, dtype: FloatDType): QuantizedWeight {
  const groups = [groupCount(scheme.group, ...shape)]
  const step = 1 / 2 ** scheme.bits
  const zeros: Record<string, RawTensor> = {}
  if (scheme.zero === 'zeroPoint') zeros.zeroPoint = scales(`${name} zero`, groups, dtype, 2 ** (scheme.bits - 1))
  if (scheme.zero === 'shift') zeros.shift = floats(`${name} shift`, groups, dtype, 0.5)
  const parts = {
    codes: codes(name, shape, 2 ** scheme.bits),
    scale: scales(`${name} scale`, groups, dtype, step),
    ...zeros,
  }
  return { scheme, shape, parts }
}

/** LLM.int8: without outliers, and with a threshold that some activations exceed. */
function rowAbsmax([n, k]: Shape): Sample[] {
  return [0, 1.5].map((outlierThreshold) => {
    const name = `int8 activations, threshold ${outlierThreshold}`
    const scb = scales(name, [n], 'F32', 1)
    const absmax = new Float32Array(scb.data.buffer)
    const scale = rawTensor(
      'F32',
      [n],
      absmax.map((x) => Math.fround(x * Math.fround(1 / 127))),
    )
    const scheme: AffineScheme = {
      kind: 'affine',
      bits: 8,
      group: { kind: 'flat', size: k },
      zero: 128,
      activations: { kind: 'int8', outlierThreshold },
    }
    return { name, weight: { scheme, shape: [n, k], parts: { codes: codes(name, [n, k], 256), scale, scb } } }
  })
}

function lookup(shape: Shape): Sample[] {
  return (Object.keys(LOOKUP_TABLES) as (keyof typeof LOOKUP_TABLES)[]).flatMap((table) =>
    groupings(shape).flatMap(([grouping, group]) =>
      [undefined, 16].map((nestedSize): Sample => {
        const name = `${table}, ${grouping}${nestedSize ? ', nested scales' : ''}`
        const bits = isFloat8(table) ? 8 : 4
        const scheme = { kind: 'lookup', bits, table, group, ...(nestedSize && { nestedSize }) } as const
        const parts = {
          codes: tableCodes(name, shape, table),
          ...lookupScales(name, groupCount(group, ...shape), nestedSize),
        }
        return { name, weight: { scheme, shape, parts } }
      }),
    ),
  )
}

/** Every code of a table but those that stand for no finite number. */
function tableCodes(name: string, shape: Shape, table: LookupTable): RawTensor {
  const drawn = codes(name, shape, isFloat8(table) ? 256 : 16)
  if (!isFloat8(table)) return drawn
  return { ...drawn, data: drawn.data.map((code) => (isSpecial(table, code) ? code & 0x3f : code)) }
}

function lookupScales(name: string, groups: number, nestedSize: number | undefined): Record<string, RawTensor> {
  if (!nestedSize) return { scale: scales(name, [groups], 'F32', 1) }
  return {
    scaleCodes: codes(`${name} scale`, [groups], 256),
    nestedScale: scales(`${name} nested`, [Math.ceil(groups / nestedSize)], 'F32', 0.2),
    nestedTable: floats(`${name} table`, [256], 'F32', 0.5),
    nestedOffset: scales(`${name} offset`, [1], 'F32', 1),
  }
}

/** Blocks of random bytes whose values are of a size that weights can have. */
function superblock([n, k]: Shape): Sample[] {
  return (Object.keys(SUPERBLOCKS) as SuperblockType[])
    .filter((type) => k % SUPERBLOCKS[type].elements === 0)
    .map((type) => {
      const count = (n * k) / SUPERBLOCKS[type].elements
      const size = superblockBytes(type)
      const blocks = new Uint8Array(count * size)
      const random = seeded(seedOf(type))
      for (let b = 0; b < count; b++) blocks.set(randomBlock(type, random), b * size)
      const parts = { blocks: rawTensor('U8', [n, blocks.length / n], blocks) }
      return { name: `superblock ${type}`, weight: { scheme: { kind: 'superblock', type }, shape: [n, k], parts } }
    })
}

function randomBlock(type: SuperblockType, random: () => number): Uint8Array {
  for (;;) {
    const block = Uint8Array.from({ length: superblockBytes(type) }, () => random() * 256)
    const values = decodeSuperblocks(type, block, 0, SUPERBLOCKS[type].elements)
    const largest = values.reduce((most, x) => Math.max(most, Math.abs(x)), 0)
    if (largest > 0.1 && largest < 10) return block // false for NaN too
  }
}

function additive([n, k]: Shape): Sample[] {
  const forms: readonly (readonly [number, number, AdditiveScheme['group'], FloatDType])[] = [
    [8, 1, { out: 1, in: 8 }, 'F32'],
    [8, 2, { out: 1, in: 8 }, 'F16'],
    [8, 4, { out: 1, in: 16 }, 'BF16'],
    [12, 1, { out: 1, in: 8 }, 'F16'],
    [16, 1, { out: 1, in: 8 }, 'F16'],
    [5, 3, { out: 2, in: 4 }, 'F32'],
    [1, 2, { out: 1, in: 4 }, 'F32'],
  ]
  return forms
    .filter(([, , group]) => n % group.out === 0 && k % group.in === 0)
    .map(([bits, codebooks, group, dtype]) => {
      const name = `additive ${codebooks}x${bits}, groups of ${group.out} x ${group.in}`
      const scheme: AdditiveScheme = { kind: 'additive', bits, codebooks, group }
      const rows = n / group.out
      const parts = {
        codes: codes(name, [rows, k / group.in, codebooks], 2 ** bits, bits <= 8 ? 'U8' : 'U16'),
        codebooks: floats(`${name} entries`, [codebooks, 2 ** bits, group.out, group.in], dtype),
        scale: scales(`${name} scale`, [rows], dtype, 1),
      }
      return { name, weight: { scheme, shape: [n, k], parts } }
    })
}

const SAMPLES: { readonly [K in Scheme['kind']]: (shape: Shape) => readonly Sample[] } = {
  dense,
  affine,
  lookup,
  superblock,
  additive,
}

/** Samples of every scheme in the shape [n, k], as far as the shape allows. */
export function schemeSamples(shape: Shape): readonly Sample[] {
  return Object.values(SAMPLES).flatMap((make) => make(shape))
}
