// Quantises a model block by block, in order, on demand: the engine of convert/ asks for one finished tensor after another, and this
// drives the method's generator of the block that holds it. What an interrupted run has finished is read back, not made again.

import type { RawTensor } from '../core/dtypes.ts'
import { BugError } from '../core/errors.ts'
import type { WorkOptions } from '../core/events.ts'
import type { QuantizerKernels } from '../core/kernels.ts'
import { blockSpans, cutGraph, type Piece } from '../graph/cut.ts'
import type { Graph } from '../graph/types.ts'
import type {
  Activations,
  BlockMethod,
  BlockResult,
  BlockRun,
  BlockTensor,
  CalibrationBlock,
} from '../methods/calibration.ts'
import { denseWeight, type QuantizedWeight } from '../weights/weight.ts'
import type { Edit, PieceRunner, Visit } from './runner.ts'

/** What the session needs of the model and of the run. */
export interface SessionModel<S> {
  readonly graph: Graph
  /** The tensors that the plan quantises or adjusts, by path. */
  readonly tensors: ReadonlyMap<string, BlockTensor<S>>
  /** The original value of a parameter, in its stored dtype. */
  load(path: string): Promise<RawTensor>
  /** A tensor that an interrupted run has finished; undefined where there is none. */
  finished(path: string): Promise<QuantizedWeight | undefined>
}

export interface SessionOptions extends WorkOptions {
  readonly runner: PieceRunner
  readonly kernels?: QuantizerKernels
  warn(message: string): void
}

/** A block that has been begun. */
interface Open {
  readonly layer: number
  readonly block: SessionBlock<unknown>
  readonly results: AsyncGenerator<BlockResult, Activations | undefined, undefined>
}

export class BlockSession<C, S> {
  private readonly model: SessionModel<S>
  private readonly method: BlockMethod<C, S>
  private readonly config: C
  private readonly options: SessionOptions
  private readonly pieces: readonly Piece[]
  private readonly layerOf = new Map<string, number>()
  private readonly started = performance.now()
  /** The layer whose inputs are at hand, and those. */
  private at = 0
  private inputs: Activations | undefined
  /** Those of the original model, where the method needs them; before the first block the same. */
  private originals: Activations | undefined
  private open: Open | undefined
  /** Results of the open block. */
  private readonly results = new Map<string, QuantizedWeight>()
  private first: number | undefined

  constructor(model: SessionModel<S>, method: BlockMethod<C, S>, config: C, options: SessionOptions) {
    this.model = model
    this.method = method
    this.config = config
    this.options = options
    this.pieces = blockSpans(model.graph).map(({ input, output }) => cutGraph(model.graph, [input], [output]))
    this.pieces.forEach(({ graph }, layer) => {
      for (const { path } of graph.parameters) if (model.tensors.has(path)) this.layerOf.set(path, layer)
    })
  }

  /** Paths of the tensors that the session gives, block by block: the order in which they are best asked for. */
  get order(): readonly string[] {
    return this.pieces.flatMap(({ graph }) => graph.parameters.map((p) => p.path).filter((p) => this.layerOf.has(p)))
  }

  /** The finished tensor at `path`. Blocks must be asked for in order. */
  async take(path: string): Promise<QuantizedWeight> {
    const layer = this.layerOf.get(path)
    if (layer === undefined) throw new BugError(`"${path}" lies in no block`, { path })
    await this.enter(layer)
    for (;;) {
      const made = this.results.get(path)
      if (made) return made
      const { value, done } = await this.open!.results.next()
      if (done) throw new BugError(`Block ${layer} ended without "${path}"`, { path, layer })
      this.results.set(value.path, value.weight)
    }
  }

  /** Begins the block `layer`, walking over those before it. */
  private async enter(layer: number): Promise<void> {
    if (this.open?.layer === layer) return
    if (layer < this.at) throw new BugError(`Block ${layer} was asked for after block ${this.at}`, { layer })
    this.inputs ??= await this.embed()
    if (this.method.needsOriginals) this.originals ??= this.inputs
    for (; this.at < layer; this.at++) await this.leave()
    this.first ??= layer
    this.open = await this.begin(layer)
    this.progress(layer, layer, {})
  }

  private async begin(layer: number): Promise<Open> {
    const block = await this.blockAt(layer)
    return { layer, block, results: this.method.quantize(block, this.config) }
  }

  private async blockAt(layer: number): Promise<SessionBlock<S>> {
    const finished = await this.finishedOf(layer)
    const values = { inputs: this.inputs!, originals: this.originals }
    return new SessionBlock<S>(layer, this.pieces, values, finished, this.model, this.options, (share, fields) =>
      this.progress(layer + share, layer, fields ?? {}),
    )
  }

  /** The values before the first block. */
  private async embed(): Promise<Activations> {
    const { graph } = this.model
    const [input] = blockSpans(graph).map((span) => span.input)
    const weight = async (path: string) => denseWeight(await this.model.load(path))
    const [values] = await this.options.runner.record({ graph, from: new Map(), to: [input], weight })
    return values
  }

  /** From the inputs of the current block to those of the next. */
  private async leave(): Promise<void> {
    const { feeds } = this.method
    const open = this.open ?? (feeds === 'returned' ? await this.begin(this.at) : undefined)
    const block = open?.block ?? (await this.blockAt(this.at))
    const returned = open && (await this.drain(open))
    const weights = new Map([...block.finished, ...this.results])
    const recorded = async () =>
      (await block.record({ to: [block.output], weights: feeds === 'quantized' ? weights : undefined }))[0]
    const next = returned ?? (await recorded())
    const originals = this.originals && (await this.recordOriginals(block))
    await this.inputs!.release()
    await this.originals?.release()
    this.inputs = next
    this.originals = originals
    this.open = undefined
    this.results.clear()
  }

  private async recordOriginals(block: Pick<SessionBlock<S>, 'input' | 'output' | 'record'>): Promise<Activations> {
    const from = new Map([[block.input, this.originals!]])
    return (await block.record({ from, to: [block.output] }))[0]
  }

  /** What is left of the generator: its clean-up, or tensors that nobody asked for. */
  private async drain({ results }: Open): Promise<Activations | undefined> {
    for (;;) {
      const step = await results.next()
      if (step.done) return step.value
      this.results.set(step.value.path, step.value.weight)
    }
  }

  private async finishedOf(layer: number): Promise<Map<string, QuantizedWeight>> {
    const finished = new Map<string, QuantizedWeight>()
    for (const { path } of this.pieces[layer].graph.parameters) {
      const weight = this.layerOf.has(path) ? await this.model.finished(path) : undefined
      if (weight) finished.set(path, weight)
    }
    return finished
  }

  private progress(done: number, layer: number, fields: Readonly<Record<string, unknown>>): void {
    const total = this.pieces.length
    const seconds = (performance.now() - this.started) / 1000
    const share = (done - (this.first ?? 0)) / (total - (this.first ?? 0))
    const secondsLeft = share > 0 ? Math.round((seconds * (1 - share)) / share) : undefined
    this.options.onEvent?.({
      event: 'progress',
      name: 'calibrate',
      done,
      total,
      unit: 'blocks',
      layer,
      secondsLeft,
      ...fields,
    })
  }

  async dispose(): Promise<void> {
    await this.options.runner.options.pool.dispose()
  }
}

class SessionBlock<S> implements CalibrationBlock<S> {
  readonly layer: number
  readonly layers: number
  readonly graph: Graph
  readonly input: number
  readonly output: number
  readonly tensors: readonly BlockTensor<S>[]
  readonly finished: ReadonlyMap<string, QuantizedWeight>
  readonly inputs: Activations
  readonly originals: Activations | undefined
  readonly length: number
  readonly memoryBytes: number
  readonly kernels: QuantizerKernels | undefined
  readonly signal: AbortSignal | undefined
  readonly progress: CalibrationBlock<S>['progress']
  readonly warn: (message: string) => void
  private readonly model: SessionModel<S>
  private readonly runner: PieceRunner

  constructor(
    layer: number,
    pieces: readonly Piece[],
    { inputs, originals }: Pick<CalibrationBlock<S>, 'inputs' | 'originals'>,
    finished: ReadonlyMap<string, QuantizedWeight>,
    model: SessionModel<S>,
    options: SessionOptions,
    progress: CalibrationBlock<S>['progress'],
  ) {
    const { graph } = pieces[layer]
    this.layer = layer
    this.layers = pieces.length
    this.graph = graph
    this.input = graph.nodes.findIndex((node) => node.op === 'input')
    this.output = graph.output
    this.tensors = graph.parameters.flatMap(({ path }) => model.tensors.get(path) ?? [])
    this.finished = finished
    this.inputs = inputs
    this.originals = originals
    this.length = options.runner.length
    this.memoryBytes = options.runner.options.pool.memoryBytes
    this.kernels = options.kernels
    this.signal = options.signal
    this.warn = options.warn
    this.progress = progress
    this.model = model
    this.runner = options.runner
  }

  load(path: string): Promise<RawTensor> {
    return this.model.load(path)
  }

  run(run: BlockRun, visit: Visit): Promise<void> {
    return this.runner.run(this.piece(run), visit)
  }

  record(run: BlockRun, edit?: Edit): Promise<Activations[]> {
    return this.runner.record(this.piece(run), edit)
  }

  private piece({ from, to, weights, batches }: BlockRun) {
    return {
      graph: this.graph,
      from: from ?? new Map([[this.input, this.inputs]]),
      to,
      batches,
      weight: async (path: string) => weights?.get(path) ?? denseWeight(await this.load(path)),
    }
  }
}
