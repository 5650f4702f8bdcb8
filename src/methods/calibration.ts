// What a method that needs data is given (scope `block`), and what it owes. src/calibrate/ implements it: it cuts the model into decoder
// blocks, streams the calibration rows through them, keeps recorded values within the memory budget, and journals what is finished.
import type { RawTensor } from '../core/dtypes.ts'
import type { QuantizerKernels } from '../core/kernels.ts'
import type { Graph } from '../graph/types.ts'
import type { QuantizedWeight } from '../weights/weight.ts'

/** Values of all calibration rows at one place of the model, float32, in batches of whole sequences. */
export interface Activations {
  readonly width: number
  /** Rows of all batches together. */
  readonly rows: number
  readonly batches: number
  /** [rows of the batch, width]; must not be changed. */
  read(batch: number): Promise<Float32Array>
  /** Forgets the values (and their file). */
  release(): Promise<void>
}

/** A part of a block: from values that are known to values that are wanted. Numbers are nodes of the block's graph. */
export interface BlockRun {
  /** Where values come from; every path from the block's input to `to` must cross one of these. Default: the block's input. */
  readonly from?: ReadonlyMap<number, Activations>
  readonly to: readonly number[]
  /** Batches that are run, in this order. Default: all. */
  readonly batches?: readonly number[]
  /** Weights that stand in for the original ones, by path. */
  readonly weights?: ReadonlyMap<string, QuantizedWeight>
}

/** A parameter of the block that the plan quantises or adjusts. */
export interface BlockTensor<S> {
  /** Path in the graph, e.g. `layers.0.mlp.up_proj.weight`. */
  readonly path: string
  /** Stored name, for messages. */
  readonly name: string
  /** Settings of a tensor that is quantised; undefined where it is only adjusted. */
  readonly settings: S | undefined
}

/** One decoder block while it is quantised. */
export interface CalibrationBlock<S = unknown> {
  readonly layer: number
  /** Blocks of the model. */
  readonly layers: number
  /** The block alone: from node `input`, of op `input`, to node `output`. Parameters have the paths of the whole model. */
  readonly graph: Graph
  readonly input: number
  readonly output: number
  /** What the block is to give, in the graph's order. */
  readonly tensors: readonly BlockTensor<S>[]
  /** Tensors of this block that an interrupted run has finished, by path: they are not to be given again. */
  readonly finished: ReadonlyMap<string, QuantizedWeight>
  /** What comes into the block. */
  readonly inputs: Activations
  /** What comes into it in the original model, where the method compares with that. */
  readonly originals?: Activations
  /** Tokens of a sequence: a batch of values holds whole sequences, one after another. */
  readonly length: number
  /** Budget for values that are kept (`--memory`); what a method keeps of its own should be a small part. */
  readonly memoryBytes: number
  /** The original weight, in its stored dtype (or that of `--dtype`). */
  load(path: string): Promise<RawTensor>
  /** Computes as precisely as float32 and hands over the values of each batch; `values[i]` belongs to `to[i]` and lives until the next batch. */
  run(run: BlockRun, visit: (values: readonly Float32Array[], batch: number) => Promise<void> | void): Promise<void>
  /** Keeps the values, those of `to[i]` in place i; or, in the same order for every batch, what `edit` makes of them. */
  record(
    run: BlockRun,
    edit?: (values: readonly Float32Array[], batch: number) => Promise<readonly Float32Array[]>,
  ): Promise<Activations[]>
  /** Says how far the work on this block is (0 to 1) and, where there is one, the error so far. */
  progress(share: number, fields?: Readonly<Record<string, unknown>>): void
  warn(message: string): void
  readonly kernels?: QuantizerKernels
  readonly signal?: AbortSignal
}

/** A finished tensor: quantised where its plan says so, else dense with the adjusted values. */
export interface BlockResult {
  readonly path: string
  readonly weight: QuantizedWeight
}

/** How calibration samples become blocks of equal length. */
export interface CalibrationRules {
  /**
   * `joined`: all samples are joined and cut, the remainder dropped. `short-samples`: samples longer than a block are left out (or cut,
   * with `--truncate`), the first `samples` others are joined and cut.
   */
  readonly cut: 'joined' | 'short-samples'
  /** Tokens of a block. */
  readonly length: number
  /** Samples that are used at most; undefined: all. */
  readonly samples?: number
}

/** What a method of scope `block` adds to its record. */
export interface BlockMethod<C = unknown, S = unknown> {
  data(config: C): CalibrationRules
  /** False for a config whose tensors need no data: they are then quantised one by one. Absent: all need it. */
  isNeeded?(config: C): boolean
  /** What the next block sees: the outputs of the original block, of the block as it was quantised, or what `quantize` returns. */
  readonly feeds: 'original' | 'quantized' | 'returned'
  /** Each block is also given what the original model has there. */
  readonly needsOriginals?: boolean
  /** Rows of a batch, at about this number. Default: what suits the kernels. */
  readonly batchRows?: number
  /** What the config says of the search and no file stores; with the data it decides the result, for resuming. */
  fingerprint?(config: C): unknown
  /** Quantises one block; every tensor is given once, as soon as it is finished. Returns the block's outputs where it feeds them. */
  quantize(block: CalibrationBlock<S>, config: C): AsyncGenerator<BlockResult, Activations | undefined, undefined>
}

/** How a method calibrates with this config; undefined where that needs no data. */
export function blockMethod<C, S>(
  { block }: { readonly block?: BlockMethod<C, S> },
  config: C,
): BlockMethod<C, S> | undefined {
  return block?.isNeeded?.(config) === false ? undefined : block
}
