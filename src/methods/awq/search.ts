// AWQ's search in one decoder block: which factors of the inputs, then which range of each group, lose least on the calibration rows. All
// candidates are tried with the original weights; what is kept is applied in the order of the groups. The reference's backup of the weights
// is copied, as on its GPUs (on a CPU it aliases, which damages models).
import type { FloatDType } from '../../core/dtypes.ts'
import { fromFloat32, roundTo, toFloat32 } from '../../core/half.ts'
import { denseWeight, type QuantizedWeight } from '../../weights/weight.ts'
import type { Activations, BlockResult, CalibrationBlock } from '../calibration.ts'
import { columnSums } from '../column-sums.ts'
import type { Awq, AwqSettings } from './config.ts'
import { linearsOf, type PreviousOp, type ScaleGroup, scaleGroups } from './groups.ts'
import {
  addGram,
  clipSearch,
  quadratic,
  requantize,
  requantizeError,
  rounded,
  roundedNorm,
  scaled,
  squaredDistances,
  weightSums,
} from './kernels.ts'
import { type CodeSpec, GRID, gridScales, type SearchDtype } from './oracle.ts'
import { nameInLayer } from './plan.ts'
import { quantizeValues } from './quantize.ts'
import { race } from './race.ts'

/** Tokens that the clip search looks at: every n-th, at least so many where there are as many. */
const CLIP_TOKENS = 512
/** An entry of the second moments, here and where the kernels work. */
const MOMENT_BYTES = 16
/** Linears whose outputs meet in the softmax are not clipped. */
const NOT_CLIPPED = ['q_', 'k_', 'query', 'key', 'Wqkv']

type Block = CalibrationBlock<AwqSettings>

/** Quantises a block; all its tensors are known only when the search is over. */
export async function* quantizeBlock(block: Block, config: Awq): AsyncGenerator<BlockResult> {
  const search = new BlockSearch(block, config)
  await search.run()
  for (const { path } of block.tensors) yield { path, weight: await search.result(path) }
}

/** What the recorded inputs of one node are kept as. */
interface Inputs {
  readonly width: number
  /** Sum of |x| over all rows, [K]. */
  sums: Float64Array
  /** Sum of x^T x, for groups of a single inspected linear. */
  gram?: Float64Array
  /** Rows of the clip search. */
  sample: Float32Array
  sampled: number
}

interface Scaled {
  readonly group: ScaleGroup
  readonly scales: Float32Array
}

class BlockSearch {
  private readonly block: Block
  private readonly config: Awq
  private readonly groups: readonly ScaleGroup[]
  /** Current values in the dtype of the search, by path. */
  private readonly values = new Map<string, Float32Array>()
  private readonly shapes = new Map<string, readonly number[]>()
  private readonly inputs = new Map<number, Inputs>()
  private readonly clips = new Map<string, Float32Array>()
  private readonly settings = new Map<string, AwqSettings>()
  private dtype: SearchDtype = 'F32'
  private done = 0
  private error = 0

  constructor(block: Block, config: Awq) {
    this.block = block
    this.config = config
    for (const { path, settings } of block.tensors) if (settings) this.settings.set(path, settings)
    this.groups = scaleGroups(block.graph).filter(({ linears }) => linears.some((path) => this.settings.has(path)))
  }

  async run(): Promise<void> {
    await this.load()
    const recorded = await this.record()
    const chosen: Scaled[] = []
    for (const group of this.groups) {
      const values = recorded.get(group.input)
      const scales = values ? await this.searchModule(group, values) : await this.searchAlone(group)
      await values?.release()
      chosen.push({ group, scales })
    }
    for (const { group, scales } of chosen) await this.apply(group, scales)
    if (this.config.applyClip) await this.searchClips()
  }

  /** A finished tensor. */
  async result(path: string): Promise<QuantizedWeight> {
    const { block } = this
    const values = this.values.get(path)!
    const shape = this.shapes.get(path)!
    const settings = this.settings.get(path)
    if (settings) {
      const { name } = block.tensors.find((t) => t.path === path)!
      return quantizeValues(name, values, shape, settings, this.clips.get(path), block.kernels)
    }
    return this.dense(path, values, this.dtype)
  }

  private dense(path: string, values: Float32Array, dtype: FloatDType): QuantizedWeight {
    return denseWeight({ dtype, shape: this.shapes.get(path)!, data: fromFloat32(values, dtype) })
  }

  // ---------------------------------------------------------------------------------------------------------- inputs

  private async load(): Promise<void> {
    const { block } = this
    for (const { path, shape } of block.graph.parameters) {
      const tensor = await block.load(path)
      if (shape.length === 2 && tensor.dtype !== 'F64') this.dtype = tensor.dtype as SearchDtype
      this.shapes.set(path, shape)
      this.values.set(path, block.kernels ? block.kernels.toFloat32(tensor) : toFloat32(tensor))
    }
  }

  /** Walks all rows once: statistics of every linear's input, and the inputs of modules that are inspected whole. */
  private async record(): Promise<ReadonlyMap<number, Activations>> {
    const { block, groups } = this
    const nodes = [...new Set(linearsOf(block.graph).map((node) => node.x))]
    const alone = new Set(groups.filter((g) => this.goesByMoments(g)).map((g) => g.input))
    const whole = groups.map((g) => g.input).filter((input) => !alone.has(input))
    const step = Math.max(1, Math.floor(block.inputs.rows / CLIP_TOKENS))
    const sampleRows = Math.ceil(block.inputs.rows / step)
    for (const node of nodes) {
      const { width } = block.graph.nodes[node]
      const gram = alone.has(node) ? new Float64Array(width * width) : undefined
      const sample = new Float32Array(sampleRows * width)
      this.inputs.set(node, { width, sums: new Float64Array(width), gram, sample, sampled: 0 })
    }
    let row = 0
    const kept = await block.record({ to: nodes.map((node) => this.source(node)) }, async (batch) => {
      const keep = new Map<number, Float32Array>()
      for (const [i, node] of nodes.entries()) {
        const x = await this.asReferenceSees(node, batch[i])
        await this.see(node, x, row, step)
        if (whole.includes(node)) keep.set(node, x)
      }
      row += batch[0].length / block.graph.nodes[nodes[0]].width
      return whole.map((node) => keep.get(node)!)
    })
    return new Map(kept.map((activations, i) => [whole[i], activations]))
  }

  /** Whether the loss of a group is told by second moments: a lone linear's is, where a matrix [K, K] is a small part of the memory. */
  private goesByMoments({ isAlone, input }: ScaleGroup): boolean {
    const { graph, memoryBytes } = this.block
    return isAlone && MOMENT_BYTES * graph.nodes[input].width ** 2 <= memoryBytes / 4
  }

  /** The node whose values are computed for the input `node`: a norm that rounds twice is computed here. */
  private source(node: number): number {
    const found = this.block.graph.nodes[node]
    return found.op === 'rmsNorm' && !found.addOne ? found.x : node
  }

  /** The input of a linear in the dtype of the search: norms round before their weight as well (Gemma's do not). */
  private async asReferenceSees(node: number, values: Float32Array): Promise<Float32Array> {
    const { block, dtype } = this
    const x = await rounded(values, dtype, block.kernels)
    const found = block.graph.nodes[node]
    if (found.op !== 'rmsNorm' || found.addOne) return x
    const weight = this.values.get(block.graph.parameters[found.weight].path)!
    return roundedNorm(x, weight, found.eps, dtype, block.kernels)
  }

  private async see(node: number, x: Float32Array, firstRow: number, step: number): Promise<void> {
    const seen = this.inputs.get(node)!
    const { width, sample } = seen
    const { kernels } = this.block
    const sums = await columnSums(x, width, 'absolute', kernels)
    seen.sums = seen.sums.map((sum, i) => sum + sums[i])
    if (seen.gram) seen.gram = await addGram(x, width, seen.gram, kernels)
    for (let r = (step - (firstRow % step)) % step; r * width < x.length; r += step)
      sample.set(x.subarray(r * width, (r + 1) * width), seen.sampled++ * width)
  }

  // ---------------------------------------------------------------------------------------------------------- factors

  private specOf(path: string): CodeSpec {
    const [rows, columns] = this.shapes.get(path)!
    const { bits, symmetric } = this.config
    const group = this.settings.get(path)?.group ?? this.defaultGroup(columns)
    return { rows, columns, group, bits, symmetric, dtype: this.dtype }
  }

  /** A linear of a group that stays float takes part in the search as if it were quantised, as in the reference. */
  private defaultGroup(columns: number): number {
    const { groupSize } = this.config
    return groupSize === -1 || columns % groupSize !== 0 ? columns : groupSize
  }

  /** Means of the inputs and of the weights of a group, in the dtype of the search. */
  private async means({ linears, input }: ScaleGroup): Promise<{ x: Float32Array; w: Float32Array | undefined }> {
    const { sums } = this.inputs.get(input)!
    const R = (v: number) => roundTo(this.dtype, Math.fround(v))
    const x = Float32Array.from(sums, (sum) => R(sum / this.block.inputs.rows))
    if (!this.config.duoScaling) return { x, w: undefined }
    const total = new Float64Array(sums.length)
    let rows = 0
    for (const path of linears) {
      const part = await weightSums(this.values.get(path)!, this.specOf(path), this.block.kernels)
      for (let i = 0; i < total.length; i++) total[i] += part[i]
      rows += this.shapes.get(path)![0]
    }
    return { x, w: Float32Array.from(total, (sum) => R(sum / rows)) }
  }

  /** The candidates of the grid. */
  private async candidates(group: ScaleGroup): Promise<Float32Array[]> {
    const { x, w } = await this.means(group)
    return Array.from({ length: GRID }, (_, step) => gridScales(step, x, w, this.dtype))
  }

  /** The candidate that won; factors of 1 where no loss is a number. */
  private chosen(group: ScaleGroup, candidates: readonly Float32Array[], best: number, loss: number): Float32Array {
    this.done = Math.ceil(this.done / GRID) * GRID
    if (best >= 0) {
      this.error += loss
      return candidates[best]
    }
    this.block.warn(
      `layer ${this.block.layer}: no factor for ${group.linears.map(nameInLayer).join(', ')} gives a finite loss: the inputs stay as they are`,
    )
    return new Float32Array(candidates[0].length).fill(1)
  }

  /** `share` of a candidate's work is done. */
  private advance(share: number): void {
    const steps = GRID * this.groups.length + (this.config.applyClip ? GRID : 0)
    this.done += share
    this.block.progress(this.done / steps, { error: this.error })
  }

  /** A linear inspected alone: the loss of its outputs is a quadratic form of the weights' error in the inputs' second moments. */
  private async searchAlone(group: ScaleGroup): Promise<Float32Array> {
    const [path] = group.linears
    const { width, gram } = this.inputs.get(group.input)!
    const { kernels, inputs, signal } = this.block
    const moments = Float32Array.from(gram!)
    const original = this.values.get(path)!
    const spec = this.specOf(path)
    const candidates = await this.candidates(group)
    let [best, least] = [-1, Infinity]
    for (const [step, scales] of candidates.entries()) {
      signal?.throwIfAborted()
      const error = await requantizeError(original, scales, spec, kernels)
      const loss = (await quadratic(error, moments, width, kernels)) / (inputs.rows * spec.rows)
      if (loss < least) [best, least] = [step, loss]
      this.advance(1)
    }
    return this.chosen(group, candidates, best, least)
  }

  /** Linears inspected through the module that they belong to. */
  private async searchModule(group: ScaleGroup, values: Activations): Promise<Float32Array> {
    const { block } = this
    const from = new Map([[group.input, values]])
    const to = [group.inspected]
    const originals = new Map([...this.values].map(([path, w]) => [path, this.dense(path, w, 'F32')]))
    const [expected] = await block.record({ from, to, weights: originals })
    const candidates = await this.candidates(group)
    const { width } = expected
    const lost = async (candidate: number, batches: readonly number[]): Promise<number[]> => {
      const weights = new Map(originals)
      for (const path of group.linears) {
        const w = await requantize(this.values.get(path)!, candidates[candidate], this.specOf(path), block.kernels)
        weights.set(path, this.dense(path, w, 'F32'))
      }
      const losses: number[] = []
      await block.run({ from, to, weights, batches }, async ([y], batch) => {
        losses.push(...(await squaredDistances(await expected.read(batch), y, block.length * width, block.kernels)))
      })
      this.advance(batches.length / expected.batches)
      return losses
    }
    const sequences = expected.rows / block.length
    const { best, loss } = await race(GRID, expected.batches, sequences, lost)
    await expected.release()
    return this.chosen(group, candidates, best, loss / (expected.rows * width))
  }

  // ---------------------------------------------------------------------------------------------------------- applying

  /** Multiplies the columns of the group's linears, divides the operation before them and the inputs that were recorded. */
  private async apply({ previous, linears, input }: ScaleGroup, scales: Float32Array): Promise<void> {
    const { kernels } = this.block
    await this.divide(previous, scales)
    for (const path of linears) {
      const w = this.values.get(path)!
      this.values.set(path, await scaled(w, scales, 'multiply columns', this.dtype, kernels))
    }
    const seen = this.inputs.get(input)!
    seen.sample = await scaled(seen.sample, scales, 'divide columns', this.dtype, kernels)
  }

  /** A norm's weights, or the last rows of a linear; the bias likewise. */
  private async divide({ kind, weight, bias, addOne }: PreviousOp, scales: Float32Array): Promise<void> {
    const R = (v: number) => roundTo(this.dtype, Math.fround(v))
    const divideEnd = async (path: string, columns: number) => {
      const w = this.values.get(path)!.slice()
      const end = w.subarray(w.length - scales.length * columns)
      end.set(await scaled(end, scales, 'divide rows', this.dtype, this.block.kernels))
      this.values.set(path, w)
    }
    if (kind === 'norm' && addOne) {
      const w = this.values.get(weight)!
      this.values.set(
        weight,
        w.map((v, i) => R(R(R(v + 1) / scales[i]) - 1)),
      )
    } else await divideEnd(weight, kind === 'norm' ? 1 : this.shapes.get(weight)![1])
    if (bias !== undefined) await divideEnd(bias, 1)
  }

  // ---------------------------------------------------------------------------------------------------------- ranges

  private async searchClips(): Promise<void> {
    const { block } = this
    const linears = linearsOf(block.graph)
    for (const [i, node] of linears.entries()) {
      const { path } = block.graph.parameters[node.weight]
      const name = block.tensors.find((t) => t.path === path)?.name
      if (name === undefined || !this.settings.has(path)) continue
      if (NOT_CLIPPED.some((part) => nameInLayer(name).includes(part))) continue
      const { sample } = this.inputs.get(node.x)!
      this.clips.set(path, await clipSearch(this.values.get(path)!, sample, this.specOf(path), block.kernels))
      block.progress((this.done + (GRID * (i + 1)) / linears.length) / (GRID * (this.groups.length + 1)), {
        error: this.error,
      })
    }
  }
}
