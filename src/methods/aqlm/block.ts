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

/** Tokens of a calibration sequence. */
const CALIBRATION_LENGTH = 512

type Block = CalibrationBlock<AqlmSettings>
type Linear = GroupedLinear<AqlmSettings>

/** What is known of the linears of a group before one of them is quantised. */
interface GroupMoments {
  /** Second moment of the inputs [K, K]. */
  readonly h: Float32Array
  /** Of each linear: what its outputs lack, by inputs [N, K]. */
  readonly errors: readonly Float64Array[]
}

/**
 * Where a linear's outputs are compared with the original model's: behind the sum with the residual, where one follows at once, so that
 * what the residual lacks is made up for as well.
 */
function comparedAt({ nodes }: Graph, linear: Linear): number {
  const sum = nodes.findIndex((node) => node.op === 'add' && (node.a === linear.node || node.b === linear.node))
  return sum < 0 ? linear.node : sum
}

/** Compares the original block on its own inputs with this one, as far as it is quantised. */
async function momentsOf(
  block: Block,
  { x, linears }: LinearGroup<AqlmSettings>,
  weights: ReadonlyMap<string, QuantizedWeight>,
): Promise<GroupMoments> {
  const { graph, kernels } = block
  const at = linears.map((linear) => comparedAt(graph, linear))
  const wanted = await block.record({ from: new Map([[block.input, block.originals!]]), to: at })
  const columns = graph.nodes[x].width
  const second = new SecondMoment(columns, kernels)
  const errors = at.map((node) => new ErrorMoment(graph.nodes[node].width, columns, kernels))
  await block.run({ to: [x, ...at], weights }, async ([values, ...given], batch) => {
    await second.add(values)
    for (const [i, error] of errors.entries()) await error.add(await wanted[i].read(batch), given[i], values)
  })
  await release(wanted)
  return { h: second.mean(), errors: errors.map((error) => error.mean()) }
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
    const { h, errors } = await momentsOf(block, { x, linears: left }, weights)
    for (const [i, { tensor }] of left.entries()) {
      const { path, name, settings } = tensor
      const { kernels } = block
      const stored = await block.load(path)
      const { weight, relativeError } = await quantizeTensor({
        name,
        tensor: stored,
        settings: withSeed(settings!, path),
        h,
        errors: errors[i],
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
