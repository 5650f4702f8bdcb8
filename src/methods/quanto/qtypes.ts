// The types of Quanto, as its files name them: affine 2 and 4 bits by groups, int8 and float8 by rows.
import { FLOAT8, type Float8Name } from '../../weights/float8.ts'
import { PACKINGS, type Packing } from '../../weights/packing.ts'
import type { InputType } from '../../weights/quantized-input.ts'

export type QType =
  | { readonly name: string; readonly kind: 'affine'; readonly bits: 2 | 4; readonly packing: Packing }
  | { readonly name: string; readonly kind: 'int8'; readonly bits: 8; readonly max: number }
  | {
      readonly name: string
      readonly kind: 'float8'
      readonly bits: 8
      readonly max: number
      readonly table: Float8Name
    }

const float8 = (table: Float8Name): QType => ({
  name: `qfloat8_${table}`,
  kind: 'float8',
  bits: 8,
  max: FLOAT8[table].max,
  table,
})

/** By the name in quanto_qmap.json. */
export const QTYPES: ReadonlyMap<string, QType> = new Map(
  [
    { name: 'qint2', kind: 'affine', bits: 2, packing: PACKINGS.quanto2 } as const,
    { name: 'qint4', kind: 'affine', bits: 4, packing: PACKINGS.quanto4 } as const,
    { name: 'qint8', kind: 'int8', bits: 8, max: 127 } as const,
    float8('e4m3fn'),
    float8('e5m2'),
    float8('e4m3fnuz'),
  ].map((type) => [type.name, type]),
)

/** A type of 8 bits as that of an input. */
export const inputTypeOf = (type: QType): InputType => (type.kind === 'float8' ? type.table : 'int8')

/** The type that `int8`, `qint8`, `float8` (e4m3fn) or `float8_e5m2` names. */
export function qtypeNamed(name: string): QType | undefined {
  const full = name.startsWith('q') ? name : `q${name}`
  return QTYPES.get(full === 'qfloat8' ? 'qfloat8_e4m3fn' : full)
}

/** Names as a config spells them: `int2`, `int4`, `int8`, `float8_e4m3fn` ... */
export const QTYPE_NAMES: readonly string[] = [...QTYPES.keys()].map((name) => name.slice(1))

/**
 * Weights that share a scale and shift, of a row of `columns`: the largest of 128, 96, 64, 32 that divides it; a whole row where it has
 * at most 128 columns or none does. No file says it: readers compute it from the shape.
 */
export function groupSizeOf(type: QType, columns: number): number {
  if (type.kind !== 'affine' || columns <= 128) return columns
  return [128, 96, 64, 32].find((size) => columns % size === 0) ?? columns
}
