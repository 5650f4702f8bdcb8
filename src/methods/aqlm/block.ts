// AQLM block by block: the linears of a block in the order in which values flow through it, each on inputs that have gone through
// everything quantised before it. What those inputs have lost already is made up for as far as the linear's weight can (target.ts).
import type { Graph } from '../../graph/types.ts'
import type { QuantizedWeight } from '../../weights/weight.ts'
import type { Activations, BlockMethod, BlockResult, CalibrationBlock } from '../calibration.ts'
import { type GroupedLinear, type LinearGroup, linearGroups } from '../linear-groups.ts'
import type { Aqlm } from './config.ts'
import { estimateSeconds } from './estimate.ts'
import { ErrorMoment, SecondMoment } from './moment.ts'
import { type AqlmSettings, quantizeTensor } from './quantize.ts'
import type { TargetData } from './target.ts'

/** Tokens of a calibration sequence. */
const CALIBRATION_LENGTH = 512

type Block = CalibrationBlock<AqlmSettings>
type Linear = GroupedLinear<AqlmSettings>
type Halves = readonly [TargetData, TargetData]

/**
 * Where a linear's outputs are compared with the original model's: behind the sum with the residual, where one follows at once, so that
 * what the residual lacks is made up for as well.
 */
function comparedAt({ nodes }: Graph, linear: Linear): number {
  const sum = nodes.findIndex((node) => node.op === 'add' && (node.a === linear.node || node.b === linear.node))
  return sum < 0 ? linear.node : sum
}

/** Moments of one half of the rows: of the inputs, and of what each linear's outputs lack. */
class HalfMoments {
  readonly second: SecondMoment
  readonly errors: readonly ErrorMoment[]

  constructor({ graph, kernels }: Block, x: number, at: readonly number[]) {
    const columns = graph.nodes[x].width
    this.second = new SecondMoment(columns, kernels)
    this.errors = at.map((node) => new ErrorMoment(graph.nodes[node].width, columns, kernels))
  }

  async add(x: Float32Array, wanted: readonly Float32Array[], given: readonly Float32Array[]): Promise<void> {
    await this.second.add(x)
    for (const [i, error] of this.errors.entries()) await error.add(wanted[i], given[i], x)
  }

  data(): TargetData[] {
    const h = this.second.mean()
    return this.errors.map((error) => ({ count: this.second.rows, d: error.mean(), h }))
  }
}

/** One half of the rows: every second run of `run` rows. */
function halfOf(values: Float32Array, width: number, run: number, half: number): Float32Array {
  const size = run * width
  const runs = Math.ceil(values.length / size)
  const parts = Array.from({ length: runs }, (_, i) => values.subarray(i * size, (i + 1) * size))
  const chosen = parts.filter((_, i) => i % 2 === half)
  const out = new Float32Array(chosen.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of chosen) {
    out.set(part, at)
    at += part.length
  }
  return out
}

/** Compares the original block on its own inputs with this one, as far as it is quantised: moments of each linear by halves of the rows. */
async function momentsOf(
  block: Block,
  { x, linears }: LinearGroup<AqlmSettings>,
  weights: ReadonlyMap<string, QuantizedWeight>,
): Promise<Halves[]> {
  const { graph, input, originals, length } = block
  const at = linears.map((linear) => comparedAt(graph, linear))
  const wanted = await block.record({ from: new Map([[input, originals!]]), to: at })
  // Half a sequence is a run, so that few sequences make two halves as well.
  const run = Math.max(1, Math.ceil(length / 2))
  const halves = [new HalfMoments(block, x, at), new HalfMoments(block, x, at)]
  await block.run({ to: [x, ...at], weights }, async ([values, ...given], batch) => {
    const expected = await Promise.all(wanted.map((outputs) => outputs.read(batch)))
    for (const [half, moments] of halves.entries()) {
      const part = (v: Float32Array, node: number) => halfOf(v, graph.nodes[node].width, run, half)
      const parts = (list: readonly Float32Array[]) => list.map((v, i) => part(v, at[i]))
      await moments.add(part(values, x), parts(expected), parts(given))
    }
  })
  await release(wanted)
  const [first, second] = halves.map((moments) => moments.data())
  return first.map((data, i) => [data, second[i]])
}

async function release(recorded: readonly Activations[]): Promise<void> {
  for (const activations of recorded) await activations.release()
}

/** Each linear draws its own numbers. */
function withSeed(settings: AqlmSettings, path: string): AqlmSettings {
  let seed = settings.search.seed
  for (let i = 0; i < path.length; i++) seed = (Math.imul(seed ^ path.charCodeAt(i), 16777619) >>> 0) + 1
  return { ...settings, search: { ...settings.search, seed: seed >>> 0 } }
}

/** Says what is ahead, on the assumption that all blocks are alike. */
async function announce(block: Block): Promise<void> {
  if (!block.kernels) return
  const linears = block.tensors.flatMap(({ path, settings }) => {
    const shape = block.graph.parameters.find((p) => p.path === path)!.shape
    return settings ? [{ rows: shape[0], columns: shape[1], settings }] : []
  })
  const seconds = (block.layers - block.layer) * (await estimateSeconds(linears, block.kernels))
  block.progress(0, { estimatedSeconds: Math.ceil(seconds) })
}

async function* quantize(block: Block): AsyncGenerator<BlockResult> {
  if (block.layer === 0) await announce(block)
  const weights = new Map(block.finished)
  let done = 0
  for (const { x, linears } of linearGroups(block.graph, block.tensors)) {
    const left = linears.filter(({ tensor }) => !block.finished.has(tensor.path))
    done += linears.length - left.length
    if (left.length === 0) continue
    const halves = await momentsOf(block, { x, linears: left }, weights)
    for (const [i, { tensor }] of left.entries()) {
      const { path, name, settings } = tensor
      const { kernels } = block
      const stored = await block.load(path)
      const { weight, relativeError } = await quantizeTensor({
        name,
        tensor: stored,
        settings: withSeed(settings!, path),
        halves: halves[i],
        kernels,
      })
      weights.set(path, weight)
      block.progress(++done / block.tensors.length, { tensor: name, relativeError })
      yield { path, weight }
    }
  }
}

/** Samples are joined and cut; each block is calibrated on the outputs of those before it as they are quantised. */
export const block: BlockMethod<Aqlm, AqlmSettings> = {
  data: () => ({ cut: 'joined', length: CALIBRATION_LENGTH }),
  feeds: 'quantized',
  needsOriginals: true,
  fingerprint: ({ search }) => search,
  quantize,
}
