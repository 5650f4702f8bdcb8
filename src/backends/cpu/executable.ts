// A model in C++ memory: one call of the engine a batch, in slices of time where the batch is long.
import { breathe, SLICE_MS } from '../../core/breathe.ts'
import { BugError } from '../../core/errors.ts'
import type { Graph } from '../../graph/types.ts'
import { checkPositions, positionLimit, rowBlocks } from '../batch.ts'
import { LengthMemory, ropeRows } from '../rope-table.ts'
import type { CompileOptions, Executable, RowBatch, WeightLoader } from '../types.ts'
import { allocate, type Door } from './door.ts'
import { Blocks, Jobs } from './jobs.ts'
import { type Lowered, lower } from './lower.ts'
import { type PreparedParameter, prepareWeight } from './prepare.ts'
import { encodeProgram, MODES, modeOf } from './program.ts'

const MAX_POSITIONS = 2 ** 24
/** Enough for the kernels of a prompt, which read a weight once for all of a block's rows. */
const BLOCK_ROWS = 512
const MAX_SLOTS = 2 ** 16
const DONE = -1
const NO_MEMORY = -2

/** Loads and tiles every weight, lowers the graph, and makes the engine. */
export async function compileOnDoor(
  door: Door,
  graph: Graph,
  load: WeightLoader,
  options: CompileOptions,
): Promise<Executable> {
  const threads = door.setThreads(options.threads)
  const jobs = new Jobs(door, options.signal)
  const parameters: PreparedParameter[] = []
  try {
    for (let i = 0; i < graph.parameters.length; i++) {
      options.signal?.throwIfAborted()
      parameters.push(await prepareWeight(jobs, await load(i), options.signal))
      options.onParameter?.(i + 1, graph.parameters.length)
    }
    return new CpuExecutable(door, graph, parameters, threads, options)
  } catch (error) {
    freeParameters(door, parameters)
    throw error
  }
}

function freeParameters(door: Door, parameters: readonly PreparedParameter[]): void {
  for (const { kind, pointer, int8 } of parameters) {
    if (kind === 'vector') door.kernels.fb_free(pointer)
    else door.kernels.fb_weight_free(pointer)
    if (int8) door.kernels.fb_free(int8.absmax)
  }
}

type InputNode = Extract<Graph['nodes'][number], { op: 'input' }>

class CpuExecutable implements Executable {
  private readonly door: Door
  private readonly graph: Graph
  private readonly parameters: readonly PreparedParameter[]
  private readonly lowered: Lowered
  private readonly taps: readonly string[]
  private readonly mode: number
  private readonly blocks: Blocks
  private readonly engine: number
  private readonly lengths = new LengthMemory()
  /** Positions below this have a row in every learned table. */
  private readonly positions: number
  /** Ids below this are tokens; 0 where the graph looks nothing up. */
  private readonly vocabulary: number
  /** Rows that run at a time: values take memory a row. All of a batch where a tap or LLM.int8's outlier columns look at all rows. */
  private readonly blockRows: number
  /** The graph's inputs, in the order of RowBatch.inputs. */
  private readonly inputs: readonly InputNode[]
  private staging = new Int32Array(0)
  private batchBlock = 0
  private batchBytes = 0
  private logits = new Float32Array(0)
  private lastRows = 0
  private lastOutputs = 0
  private running: Promise<unknown> = Promise.resolve()
  private disposed = false

  constructor(
    door: Door,
    graph: Graph,
    parameters: readonly PreparedParameter[],
    threads: number,
    options: CompileOptions,
  ) {
    this.door = door
    this.graph = graph
    this.parameters = parameters
    this.taps = options.taps ?? []
    const embedding = graph.nodes.find((node) => node.op === 'embedding')
    this.vocabulary = embedding?.op === 'embedding' ? graph.parameters[embedding.weight].shape[0] : 0
    const inputs = graph.nodes.filter((node): node is InputNode => node.op === 'input')
    this.inputs = inputs.sort((a, b) => a.index - b.index)
    this.positions = positionLimit(graph)
    this.mode = MODES[options.precision]
    const whole = this.taps.length > 0 || parameters.some(({ int8 }) => int8 && int8.threshold > 0)
    this.blockRows = whole ? Number.POSITIVE_INFINITY : BLOCK_ROWS
    this.lowered = lower(graph, this.taps, (parameter) => parameters[parameter].int8 !== undefined)
    this.blocks = new Blocks(door)
    const { numbers, pageFloats } = encodeProgram(graph, this.lowered, parameters, this.mode)
    const { rowFloats, selectedFloats } = this.lowered
    const halves = graph.ropes.map((rope) => rope.rotaryDim / 2)
    const program = this.blocks.takeFrom(numbers)
    const sizes = [rowFloats, selectedFloats, pageFloats, threads, halves.length, ...halves]
    this.engine = door.kernels.fb_engine_new(program, numbers.length, ...sizes)
    if (this.engine === 0) allocate(door, threads * 128 * 1024)
  }

  run(batch: RowBatch): Promise<Float32Array> {
    const result = this.running.then(() => this.runNow(batch))
    this.running = result.catch(() => undefined)
    return result
  }

  private async runNow(batch: RowBatch): Promise<Float32Array> {
    if (this.disposed) throw new BugError('A model that was disposed of cannot run')
    this.check(batch)
    const ropes = this.graph.ropes.map((spec) => ropeRows(spec, batch, this.lengths))
    const tables = ropes.flatMap(({ cos, sin }) => [cos, sin])
    const { output } = this.graph
    const lines = this.lowered.selected[output] ? batch.outputs.length : batch.ids.length
    const length = lines * this.graph.nodes[output].width
    if (this.logits.length !== length) this.logits = new Float32Array(length)
    let done = 0
    for (const block of rowBlocks(
      { ...batch, inputs: batch.inputs?.slice(0, this.inputs.length) },
      tables,
      this.blockRows,
    )) {
      await this.runBlock(block.batch, block.tables)
      done += this.read(output, (count) => this.logits.subarray(done, done + count)).length
    }
    return this.logits
  }

  private async runBlock(batch: RowBatch, tables: readonly Float32Array[]): Promise<void> {
    const { fb_engine_run: runEngine } = this.door.kernels
    const rows = batch.ids.length
    const outputs = batch.outputs.length
    this.stage(batch, tables)
    const decode = Number(batch.phase === 'decode')
    for (let place = 0; ; ) {
      place = runEngine(this.engine, this.batchBlock, rows, outputs, decode, place, SLICE_MS)
      if (place === DONE) break
      if (place === NO_MEMORY) allocate(this.door, rows * this.lowered.rowFloats * 4)
      await breathe()
    }
    this.lastRows = rows
    this.lastOutputs = outputs
  }

  /** Numbers outside their range would be read as addresses. */
  private check(batch: RowBatch): void {
    checkPositions(batch, this.positions)
    const rows = batch.ids.length
    const within = (values: Int32Array, limit: number) => values.every((value) => value >= 0 && value < limit)
    const { vocabulary } = this
    const id = vocabulary > 0 ? batch.ids.find((value) => value < 0 || value >= vocabulary) : undefined
    if (rows > 0 && id === undefined && within(batch.outputs, rows) && this.hasInputs(batch))
      if (within(batch.positions, MAX_POSITIONS) && within(batch.slots, MAX_SLOTS)) return
    throw new BugError(
      id === undefined
        ? `Cannot run a batch of ${rows} rows: a position, slot or wanted row is out of range, or an input has another size`
        : `Cannot run token ${id}: the model has ids 0 to ${vocabulary - 1}`,
      { rows, id },
    )
  }

  private hasInputs({ ids, inputs = [] }: RowBatch): boolean {
    return this.inputs.every((node, i) => inputs[i]?.length === ids.length * node.width)
  }

  /** Copies ids, positions, slots, wanted rows, the rows of each rope and inputs to C++ memory. */
  private stage(batch: RowBatch, ropes: readonly Float32Array[]): void {
    const rows = batch.ids.length
    const integers = Math.ceil((3 * rows + batch.outputs.length) / 16) * 16
    const tables = [...ropes, ...(batch.inputs ?? [])]
    const words = tables.reduce((sum, table) => sum + table.length, integers)
    if (this.staging.length < words) this.staging = new Int32Array(words)
    const { staging } = this
    staging.set(batch.ids, 0)
    staging.set(batch.positions, rows)
    staging.set(batch.slots, 2 * rows)
    staging.set(batch.outputs, 3 * rows)
    const floats = new Float32Array(staging.buffer)
    let at = integers
    for (const table of tables) {
      floats.set(table, at)
      at += table.length
    }
    if (this.batchBytes < words * 4) {
      this.door.kernels.fb_free(this.batchBlock)
      this.batchBlock = allocate(this.door, words * 4)
      this.batchBytes = words * 4
    }
    this.door.write(this.batchBlock, staging.subarray(0, words))
  }

  private read(node: number, place: (length: number) => Float32Array): Float32Array {
    const selected = this.lowered.selected[node]
    const offset = this.lowered.offsets[node]
    if (offset === undefined) throw new BugError(`Value %${node} is not stored by this plan`)
    const length = (selected ? this.lastOutputs : this.lastRows) * this.graph.nodes[node].width
    const into = place(length)
    this.door.read(this.door.kernels.fb_engine_value(this.engine, offset, Number(selected)), into)
    return into
  }

  tap(name: string): Float32Array {
    if (!this.taps.includes(name)) throw new BugError(`The model was not compiled with tap "${name}"`, { tap: name })
    return this.read(this.graph.taps[name], (length) => new Float32Array(length))
  }

  truncate(slot: number, length: number): void {
    this.door.kernels.fb_engine_truncate(this.engine, slot, length)
  }

  memory(): { weightBytes: number; cacheBytes: number } {
    const weightBytes = this.parameters.reduce((sum, p) => sum + p.bytes, 0)
    return { weightBytes, cacheBytes: this.door.kernels.fb_engine_bytes(this.engine) + this.batchBytes }
  }

  kernels(): readonly { parameter: string; kernel: string; bytes: number }[] {
    return this.graph.parameters.map(({ path }, i) => {
      const { bytes, kind } = this.parameters[i]
      return { parameter: path, kernel: kind === 'vector' ? 'f32' : this.kernelOf(this.parameters[i]), bytes }
    })
  }

  /** Name of the kernel that runs a weight in decode. */
  private kernelOf(parameter: PreparedParameter): string {
    const { pointer, int8, input } = parameter
    const text = new Uint8Array(64)
    const block = allocate(this.door, text.length)
    const flags = [int8 !== undefined, input?.type === 'int8'].map(Number)
    const length = this.door.kernels.fb_weight_kernel(pointer, modeOf(parameter, this.mode), 1, ...flags, block)
    this.door.read(block, text)
    this.door.kernels.fb_free(block)
    return new TextDecoder().decode(text.subarray(0, length))
  }

  dispose(): void {
    if (this.disposed) return
    this.disposed = true
    this.door.kernels.fb_engine_free(this.engine)
    this.door.kernels.fb_free(this.batchBlock)
    this.blocks.free()
    freeParameters(this.door, this.parameters)
  }
}
