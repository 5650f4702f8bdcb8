// A model of one linear, to run a weight's product on a device.
import type { RowBatch } from '../../src/backends/types.ts'
import type { Graph } from '../../src/graph/types.ts'

/** y = x W^T (+ b): parameter 0 is the weight [n, k], parameter 1 the bias [n]. */
export function linearGraph([n, k]: readonly [number, number], withBias = false): Graph {
  return {
    nodes: [
      { op: 'input', index: 0, width: k },
      { op: 'linear', x: 0, weight: 0, ...(withBias && { bias: 1 }), width: n },
    ],
    parameters: [
      { path: 'w', shape: [n, k], kind: 'linear' },
      ...(withBias ? [{ path: 'b', shape: [n], kind: 'vector' as const }] : []),
    ],
    ropes: [],
    output: 1,
    taps: {},
    layers: 0,
  }
}

/** Rows of values as the batch of such a model. */
export function linearBatch(x: Float32Array, rows: number, phase: RowBatch['phase']): RowBatch {
  const order = Int32Array.from({ length: rows }, (_, r) => r)
  return {
    ids: new Int32Array(rows),
    positions: new Int32Array(rows),
    slots: order,
    outputs: order,
    inputs: [x],
    phase,
  }
}
