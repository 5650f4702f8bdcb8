// What a quantiser looks up in a grid: the row of a point, or, for a point that is no row, the rows that lie nearest.
import { type GridName, gridOf } from '../../weights/superblock/grids.ts'

export interface GridIndex {
  /** By packed point: its row, or -1 - where its candidates begin; points that cannot occur: 0. */
  readonly places: Int32Array
  /** Lists: their length, then the packed points of rows, by distance and then by number. */
  readonly candidates: Uint16Array
}

const indices = new Map<GridName, GridIndex>()
/** How many distinct distances the candidates of a point may have: ggml's choice for each grid. */
const DISTANCES: Readonly<Record<GridName, number>> = { IQ1: 3, IQ2_XXS: 2, IQ2_XS: 2, IQ2_S: 1, IQ3_XXS: 2, IQ3_S: 3 }
/** The lists end with zeros, so that a kernel can load whole vectors. */
const PADDING = 16

/** The index of this grid; made once, in some 50 ms. */
export function gridIndex(name: GridName): GridIndex {
  let index = indices.get(name)
  if (!index) {
    index = build(name)
    indices.set(name, index)
  }
  return index
}

function build(name: GridName): GridIndex {
  const { points, bits, size, levels } = gridOf(name)
  const places = new Int32Array(2 ** (bits * size))
  const rows = new Map<number, number>()
  for (const [row, point] of points.entries()) rows.set(point, row)
  const lists: number[] = []
  const distances = halfDistances(bits, size / 2)
  for (let n = 0; n < levels.length ** size; n++) {
    const point = pointOf(n, levels.length, bits)
    const row = rows.get(point)
    places[point] = row ?? -1 - lists.length
    if (row === undefined) {
      const nearest = nearestRows(point, points, distances, bits * (size / 2), DISTANCES[name])
      lists.push(nearest.length, ...nearest)
    }
  }
  const candidates = new Uint16Array(lists.length + PADDING)
  candidates.set(lists)
  return { places, candidates }
}

/** The digits of n, packed. */
function pointOf(n: number, base: number, bits: number): number {
  let point = 0
  for (let shift = 0; n > 0; shift += bits, n = Math.floor(n / base)) point |= (n % base) << shift
  return point
}

/** Squared distance between any two halves of points: [a << halfBits | b]. */
function halfDistances(bits: number, coordinates: number): Uint8Array {
  const count = 2 ** (bits * coordinates)
  const mask = 2 ** bits - 1
  const out = new Uint8Array(count * count)
  for (let a = 0; a < count; a++)
    for (let b = 0; b < count; b++)
      for (let shift = 0; shift < bits * coordinates; shift += bits)
        out[a * count + b] += (((a >> shift) & mask) - ((b >> shift) & mask)) ** 2
  return out
}

/** The rows at the `wanted` smallest distances from `point`, nearest first, of equal ones the lower first. */
function nearestRows(
  point: number,
  points: Uint16Array,
  halves: Uint8Array,
  halfBits: number,
  wanted: number,
): number[] {
  const low = (point & (2 ** halfBits - 1)) << halfBits
  const high = (point >> halfBits) << halfBits
  const shells: number[][] = []
  for (const row of points) {
    const distance = halves[low | (row & (2 ** halfBits - 1))] + halves[high | (row >> halfBits)]
    const shell = (shells[distance] ??= [])
    shell.push(row)
  }
  return shells
    .filter((shell) => shell !== undefined)
    .slice(0, wanted)
    .flat()
}
