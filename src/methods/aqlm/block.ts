// AQLM block by block: the linears of a block in the order in which values flow through it, each on inputs that have gone through
// everything quantised before it.
import type { QuantizedWeight } from '../../weights/weight.ts'
import type { BlockMethod, BlockResult, CalibrationBlock } from '../calibration.ts'
import { linearGroups } from '../linear-groups.ts'
import type { Aqlm } from './config.ts'
import { estimateSeconds } from './estimate.ts'
import { SecondMoment } from './moment.ts'
import { type AqlmSettings, quantizeTensor } from './quantize.ts'

/** Tokens of a calibration sequence. */
const CALIBRATION_LENGTH = 512

type Block = CalibrationBlock<AqlmSettings>

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

async function* quantize(block: Block): AsyncGenerator<BlockResult> {
  if (block.layer === 0) await announce(block)
  const weights = new Map(block.finished)
  let done = 0
  for (const { x, linears } of linearGroups(block.graph, block.tensors)) {
    const tensors = linears.map(({ tensor }) => tensor)
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
