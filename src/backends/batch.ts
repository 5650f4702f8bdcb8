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
