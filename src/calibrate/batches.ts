// Calibration ids as batches of whole sequences: enough rows for the kernels and the threads, few enough for the arena.
import type { RowBatch } from '../backends/types.ts'

/** Blocks of equal length, as ids. */
export interface CalibrationIds {
  /** [length] each. */
  readonly blocks: readonly Int32Array[]
  readonly length: number
}

/** Rows of a batch, at about this number. */
const BATCH_ROWS = 4096

/** A batch of sequences: slot s is sequence s of the batch. */
export type SequenceBatch = Pick<RowBatch, 'ids' | 'positions' | 'slots'>

/** The batches in order; the last may be smaller. */
export function sequenceBatches({ blocks, length }: CalibrationIds, rows: number = BATCH_ROWS): SequenceBatch[] {
  const perBatch = Math.max(1, Math.floor(rows / length))
  const batches: SequenceBatch[] = []
  for (let from = 0; from < blocks.length; from += perBatch) {
    const part = blocks.slice(from, from + perBatch)
    const ids = new Int32Array(part.length * length)
    part.forEach((block, s) => {
      ids.set(block, s * length)
    })
    batches.push({
      ids,
      positions: ids.map((_, r) => r % length),
      slots: ids.map((_, r) => Math.floor(r / length)),
    })
  }
  return batches
}
