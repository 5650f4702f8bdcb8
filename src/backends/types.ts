// What a backend owes: it prepares weights, compiles a plan, and runs batches of rows. It knows no model, method or file.
import type { Graph } from '../graph/types.ts'
import type { QuantizedWeight } from '../weights/weight.ts'

/**
 * How exactly linears compute.
 * - `exact`: activations as precise as float32 (f32 or a split with f32's error).
 * - `fast`: declared approximations on quantised weights are allowed (int8 activations); dense weights stay exact.
 * - `fastest`: also those that lose more than that and are off by default (int16 tables of AQLM's codebooks).
 */
export type Precision = 'exact' | 'fast' | 'fastest'

/** Rows to compute: row r is token `ids[r]` of sequence `slots[r]` at `positions[r]`. Rows of one slot come in rising positions. */
export interface RowBatch {
  readonly ids: Int32Array
  readonly positions: Int32Array
  readonly slots: Int32Array
  /** Rows whose logits are wanted, rising. */
  readonly outputs: Int32Array
  /** Values of the graph's `input` nodes, [R, width] each; a graph that has them needs no ids. */
  readonly inputs?: readonly Float32Array[]
  /** Decode uses kernels and digits of its own, whatever the number of rows. */
  readonly phase: 'prefill' | 'decode'
}

/** Loads parameter `index` of the graph; called once for each, in the graph's order; may be asynchronous (reading a file). */
export type WeightLoader = (index: number) => Promise<QuantizedWeight>

export interface CompileOptions {
  readonly precision: Precision
  readonly threads: number
  /** Taps that `run` must be able to return. */
  readonly taps?: readonly string[]
  readonly onParameter?: (done: number, total: number) => void
  readonly signal?: AbortSignal
}

/** A model ready to run on one backend. Slots are sequences, each with its own key/value cache. */
export interface Executable {
  /** Logits of the wanted rows, [outputs.length, V] float32; valid until the next call. */
  run(batch: RowBatch): Promise<Float32Array>
  /** The named value after the last run, [R, width]. */
  tap(name: string): Float32Array
  /** Forgets the positions from `length` on of one sequence. */
  truncate(slot: number, length: number): void
  /** Bytes held for weights and caches. */
  memory(): { weightBytes: number; cacheBytes: number }
  /** Which kernel runs each parameter, for `explain` and FEWBIT_DEBUG. */
  kernels(): readonly { parameter: string; kernel: string; bytes: number }[]
  dispose(): void
}

export interface Backend {
  readonly name: 'reference' | 'cpu' | 'wasm'
  /** One line for people: instruction set, threads. */
  describe(): string
  /** What the user should know about the choice, e.g. that the addon is missing; a line each, for stderr. */
  readonly notices?: readonly string[]
  compile(graph: Graph, load: WeightLoader, options: CompileOptions): Promise<Executable>
}
