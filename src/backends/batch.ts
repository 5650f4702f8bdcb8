// Batches of rows for Executable.run.
import { UnsupportedError } from '../core/errors.ts'
import type { Graph } from '../graph/types.ts'
import type { RowBatch } from './types.ts'

/** Positions that a graph has rows for: those of its shortest learned table. */
export function positionLimit({ nodes, parameters }: Graph): number {
  const limits = nodes.map((node) =>
    node.op === 'positions' ? parameters[node.weight].shape[0] - node.offset : Number.POSITIVE_INFINITY,
  )
  return Math.min(...limits)
}

/** Throws UnsupportedError where a row lies beyond the learned positions. */
export function checkPositions({ positions }: Pick<RowBatch, 'positions'>, limit: number): void {
  const beyond = positions.find((position) => position >= limit)
  if (beyond === undefined) return
  throw new UnsupportedError(`Cannot run position ${beyond}: the model has learned ${limit} positions`, {
    position: beyond,
    limit,
    hint: `give it at most ${limit} tokens`,
  })
}

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

/**
 * A batch in blocks of up to `most` rows, in their order, each with the rows that it wants; `tables` have values for every row, and are cut with it.
 */
export function* rowBlocks(
  batch: RowBatch,
  tables: readonly Float32Array[],
  most: number,
): Generator<{ batch: RowBatch; tables: readonly Float32Array[] }> {
  const { ids, positions, slots, outputs, inputs, phase } = batch
  const rows = ids.length
  for (let from = 0, output = 0; from < rows; from += most) {
    const to = Math.min(from + most, rows)
    const first = output
    while (output < outputs.length && outputs[output] < to) output++
    const rowsOfTable = (table: Float32Array) => {
      const width = table.length / rows
      return table.subarray(from * width, to * width)
    }
    yield {
      batch: {
        ids: ids.subarray(from, to),
        positions: positions.subarray(from, to),
        slots: slots.subarray(from, to),
        outputs: outputs.subarray(first, output).map((row) => row - from),
        inputs: inputs?.map(rowsOfTable),
        phase,
      },
      tables: tables.map(rowsOfTable),
    }
  }
}
