// Runs pieces of a model over all calibration rows, batch by batch: each piece is compiled for the backend, exact, with the weights that
// the caller gives, and forgotten again.
import type { Backend, Executable, WeightLoader } from '../backends/types.ts'
import { BugError } from '../core/errors.ts'
import { cutGraph, outputTap } from '../graph/cut.ts'
import type { Graph } from '../graph/types.ts'
import type { Activations } from '../methods/calibration.ts'
import type { QuantizedWeight } from '../weights/weight.ts'
import type { ActivationPool, Recording } from './activations.ts'
import type { SequenceBatch } from './batches.ts'

export interface RunnerOptions {
  readonly backend: Backend
  readonly threads: number
  readonly batches: readonly SequenceBatch[]
  readonly pool: ActivationPool
  readonly signal?: AbortSignal
}

export interface PieceRun {
  readonly graph: Graph
  /** Nodes whose values are known. */
  readonly from: ReadonlyMap<number, Activations>
  /** Nodes whose values are wanted. */
  readonly to: readonly number[]
  /** Batches that are run. Default: all. */
  readonly batches?: readonly number[]
  weight(path: string): Promise<QuantizedWeight>
}

export type Visit = (values: readonly Float32Array[], batch: number) => Promise<void> | void

export type Edit = (
  values: readonly Float32Array[],
  batch: number,
) => Promise<readonly Float32Array[]> | readonly Float32Array[]

export class PieceRunner {
  readonly options: RunnerOptions
  /** Rows of all batches. */
  readonly rows: number
  /** Tokens of a sequence. */
  readonly length: number
  constructor(options: RunnerOptions) {
    this.options = options
    this.length = options.batches[0].slots.lastIndexOf(0) + 1
    this.rows = options.batches.reduce((sum, { ids }) => sum + ids.length, 0)
  }

  /** Computes `to` from `from` and hands the values over, batch by batch. */
  async run({ graph, from, to, weight, batches: wanted }: PieceRun, visit: Visit): Promise<void> {
    const { backend, threads, batches, signal } = this.options
    const sources = [...from.values()]
    const piece = cutGraph(graph, [...from.keys()], to)
    const taps = to.map((_, i) => outputTap(i))
    const load: WeightLoader = (index) => weight(piece.graph.parameters[index].path)
    const executable = await backend.compile(piece.graph, load, { precision: 'exact', threads, taps, signal })
    try {
      for (const index of wanted ?? batches.keys()) {
        signal?.throwIfAborted()
        const inputs = await Promise.all(sources.map((source) => source.read(index)))
        await runBatch(executable, batches[index], inputs)
        await visit(
          taps.map((tap) => executable.tap(tap)),
          index,
        )
      }
    } finally {
      executable.dispose()
    }
  }

  /** Computes `to` and keeps the values, or what `edit` makes of them. */
  async record(run: PieceRun, edit: Edit = (values) => values): Promise<Activations[]> {
    const recordings: Recording[] = []
    const { pool, batches } = this.options
    await this.run(run, async (values, batch) => {
      for (const [i, kept] of (await edit(values, batch)).entries()) {
        recordings[i] ??= await pool.record(kept.length / batches[batch].ids.length, this.rows)
        await recordings[i].add(kept)
      }
    })
    return recordings.map((recording) => recording.finish())
  }
}

/** One batch from empty caches. */
async function runBatch(executable: Executable, batch: SequenceBatch, inputs: readonly Float32Array[]): Promise<void> {
  await executable.run({ ...batch, outputs: new Int32Array(0), phase: 'prefill', inputs })
  const sequences = batch.slots.at(-1)
  if (sequences === undefined) throw new BugError('A batch of calibration rows is empty')
  for (let slot = 0; slot <= sequences; slot++) executable.truncate(slot, 0)
}
