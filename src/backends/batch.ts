// Batches of rows for Executable.run.
import type { RowBatch } from './types.ts'

/** Rows of one sequence from `position` on; logits of the last row only, or of all. */
export function rowsOf(ids: readonly number[], position: number, outputs: 'last' | 'all', slot = 0): RowBatch {
  const count = ids.length
  return {
    ids: Int32Array.from(ids),
    positions: Int32Array.from({ length: count }, (_, i) => position + i),
    slots: new Int32Array(count).fill(slot),
    outputs: outputs === 'last' ? Int32Array.of(count - 1) : Int32Array.from({ length: count }, (_, i) => i),
    phase: count === 1 && position > 0 ? 'decode' : 'prefill',
  }
}
