// AQLM block by block: the linears of a block in the order in which values flow through it, each on inputs that have gone through
// everything quantised before it.
import type { Graph } from '../../graph/types.ts'
import type { QuantizedWeight } from '../../weights/weight.ts'
import type { BlockMethod, BlockResult, BlockTensor, CalibrationBlock } from '../calibration.ts'
import type { Aqlm } from './config.ts'
import { estimateSeconds } from './estimate.ts'
import { SecondMoment } from './moment.ts'
import { type AqlmSettings, quantizeTensor } from './quantize.ts'

/** Tokens of a calibration sequence. */
const CALIBRATION_LENGTH = 512

type Block = CalibrationBlock<AqlmSettings>

/** Linears that read the same values, and the node of those. */
interface Group {
  readonly x: number
  readonly tensors: readonly BlockTensor<AqlmSettings>[]
}

/** The tensors of a block by the values that they read, in the order of the graph. */
function groupsOf(graph: Graph, tensors: Block['tensors']): Group[] {
  const groups = new Map<number, BlockTensor<AqlmSettings>[]>()
  for (const node of graph.nodes) {
    if (node.op !== 'linear') continue
    const tensor = tensors.find(({ path }) => path === graph.parameters[node.weight].path)
    if (!tensor) continue
    const group = groups.get(node.x)
    if (group) group.push(tensor)
    else groups.set(node.x, [tensor])
  }
  return [...groups].map(([x, list]) => ({ x, tensors: list }))
}

/** H of the values at node `x`, with the block quantised as far as it is. */
async function momentAt(block: Block, x: number, weights: ReadonlyMap<string, QuantizedWeight>): Promise<Float32Array> {
  const moment = new SecondMoment(block.graph.nodes[x].width, block.kernels)
  await block.run({ to: [x], weights }, ([values]) => moment.add(values))
  return moment.mean()
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

async function* quantize(block: Block): AsyncIterable<BlockResult> {
  if (block.layer === 0) await announce(block)
  const weights = new Map(block.finished)
  let done = 0
  for (const { x, tensors } of groupsOf(block.graph, block.tensors)) {
    const left = tensors.filter(({ path }) => !block.finished.has(path))
    done += tensors.length - left.length
    if (left.length === 0) continue
    const h = await momentAt(block, x, weights)
    for (const { path, name, settings } of left) {
      const tensor = await block.load(path)
      const { kernels } = block
      const { weight, relativeError } = await quantizeTensor({
        name,
        tensor,
        settings: withSeed(settings!, path),
        h,
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
  quantize,
}
