// Cosines and sines of the rows of a batch, shared by all backends. Angles are products in float32, as the reference's are.
import type { RopeSpec } from '../graph/types.ts'
import type { RowBatch } from './types.ts'

/**
 * The lengths that ropes with a memory go by, one for each sequence: the longest so far, until the sequence is shorter than
 * `remembersUntil`. Keys that are cached already keep the rotation they were given.
 */
export class LengthMemory {
  private readonly longest = new Map<string, number>()

  /** The length whose frequencies a sequence of `length` tokens uses now. */
  update(spec: RopeSpec, slot: number, length: number): number {
    if (spec.remembersUntil === undefined) return length
    const key = `${spec.id} ${slot}`
    const kept = length < spec.remembersUntil ? length : Math.max(length, this.longest.get(key) ?? 0)
    this.longest.set(key, kept)
    return kept
  }
}

/** cos and sin [R, rotaryDim / 2] for each row's position; may be called several times for a batch. */
export function ropeRows(
  spec: RopeSpec,
  batch: Pick<RowBatch, 'positions' | 'slots'>,
  memory: LengthMemory,
): { cos: Float32Array; sin: Float32Array } {
  const { positions, slots } = batch
  const half = spec.rotaryDim / 2
  const cos = new Float32Array(positions.length * half)
  const sin = new Float32Array(positions.length * half)
  const frequenciesOf = spec.dependsOnLength ? bySlot(spec, batch, memory) : () => spec.frequencies(0)
  positions.forEach((position, r) => {
    const { inverse, scale } = frequenciesOf(slots[r])
    for (let i = 0; i < half; i++) {
      const angle = Math.fround(position * inverse[i])
      cos[r * half + i] = Math.cos(angle) * scale
      sin[r * half + i] = Math.sin(angle) * scale
    }
  })
  return { cos, sin }
}

type Frequencies = ReturnType<RopeSpec['frequencies']>

/** Each sequence by its own length, so that a prompt is rotated alike alone and in a batch. */
function bySlot(
  spec: RopeSpec,
  { positions, slots }: Pick<RowBatch, 'positions' | 'slots'>,
  memory: LengthMemory,
): (slot: number) => Frequencies {
  const lengths = new Map<number, number>()
  slots.forEach((slot, r) => {
    lengths.set(slot, Math.max(lengths.get(slot) ?? 0, positions[r] + 1))
  })
  const frequencies = new Map<number, Frequencies>()
  for (const [slot, length] of lengths) frequencies.set(slot, spec.frequencies(memory.update(spec, slot, length)))
  return (slot) => frequencies.get(slot)!
}
