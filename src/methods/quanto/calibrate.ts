// Activations of Quanto: a decoder block is walked in the order in which values flow, and each linear's input and output scales are followed
// sequence by sequence, on values that have gone through everything quantised before. As in the reference with `streamline`, inputs stay
// quantised with the scales as they were at each sequence, outputs only in the very first one.
import { WeightError } from '../../core/errors.ts'
import { type Graph, inputsOf } from '../../graph/types.ts'
import { type InputType, inputMax, quantizedInputs } from '../../weights/quantized-input.ts'
import type { Scheme } from '../../weights/scheme.ts'
import { part, type QuantizedWeight } from '../../weights/weight.ts'
import type { Activations, BlockMethod, BlockResult, CalibrationBlock } from '../calibration.ts'
import { groupRanges } from '../groups.ts'
import { type GroupedLinear, type LinearGroup, linearGroups } from '../linear-groups.ts'
import type { Quanto, QuantoSettings } from './config.ts'
import type { Arithmetic } from './oracle.ts'
import { inputTypeOf } from './qtypes.ts'
import { quantize } from './quantize.ts'
import { INPUT_MOMENTUM, ScaleTrack } from './scales.ts'

type Block = CalibrationBlock<QuantoSettings>
type Linear = GroupedLinear<QuantoSettings>

/** Tokens of a calibration sequence, which is one batch of the reference. */
const CALIBRATION_LENGTH = 512

/** A linear as it is calibrated. */
interface Site extends Linear {
  /** Without its activations. */
  readonly weight: QuantizedWeight
  readonly output: ScaleTrack
  /** Scale of the output in the first sequence, the only one in which it is quantised. */
  firstScale: number
}

async function* quantizeBlock(block: Block, config: Quanto): AsyncGenerator<BlockResult, Activations, undefined> {
  const type = inputTypeOf(config.settings.activations!)
  const walk = new Walk(block, type, config.momentum)
  const groups = linearGroups(block.graph, block.tensors)
  let done = 0
  for (const group of groups) {
    const { input, sites } = await walk.pass(group)
    for (const { tensor, weight, output } of sites) {
      block.progress(++done / block.tensors.length, { tensor: tensor.name })
      if (block.finished.has(tensor.path)) continue
      const scheme = { ...weight.scheme, input: { type } } as Scheme
      const parts = { ...weight.parts, inputScale: input.tensor(), outputScale: output.tensor() }
      yield { path: tensor.path, weight: { ...weight, scheme, parts } }
    }
  }
  return walk.outputs()
}

class Walk {
  private readonly block: Block
  private readonly type: InputType
  private readonly momentum: number
  /** Values at the block's input, and at the linears that are done. */
  private readonly known: Map<number, Activations>
  private readonly sites = new Map<number, Site>()

  constructor(block: Block, type: InputType, momentum: number) {
    this.block = block
    this.type = type
    this.momentum = momentum
    this.known = new Map([[block.input, block.inputs]])
  }

  /** Calibrates the linears of a group. */
  async pass({ x, linears }: LinearGroup<QuantoSettings>): Promise<{ input: ScaleTrack; sites: readonly Site[] }> {
    const sites: Site[] = []
    for (const linear of linears) sites.push(await this.site(linear))
    const { block } = this
    const input = new ScaleTrack(inputMax(this.type), INPUT_MOMENTUM, dtypeOf(sites[0]))
    const before = this.quantizedBefore(x)
    const [seen] = await block.record({ from: this.needed(x), to: [x] }, async ([values], batch) => {
      const largest = await this.largest(sites[0], values, 'input')
      const scales = largest.map((value, s) =>
        batch + s === 0 && before ? input.adopt(before.firstScale) : input.see(value),
      )
      return [await quantizedInputs(values, values.length / scales.length, scales, this.type, block.kernels)]
    })
    this.checkSeen(input, sites)
    const weights = new Map(sites.map(({ tensor, weight }) => [tensor.path, weight]))
    const made = await block.record(
      { from: new Map([[x, seen]]), to: sites.map(({ node }) => node), weights },
      (values, batch) => Promise.all(values.map((y, i) => this.follow(sites[i], y, batch))),
    )
    await seen.release()
    sites.forEach((site, i) => {
      this.known.set(site.node, made[i])
      this.sites.set(site.node, site)
    })
    return { input, sites }
  }

  /** What the next block sees. */
  async outputs(): Promise<Activations> {
    const { block, known } = this
    const [outputs] = await block.record({ from: this.needed(block.output), to: [block.output] })
    for (const [node, values] of known) if (node !== block.input) await values.release()
    return outputs
  }

  private async site(linear: Linear): Promise<Site> {
    const { block, type, momentum } = this
    const { path, name, settings } = linear.tensor
    const { kernels, warn } = block
    const tensor = await block.load(path)
    const weight = await quantize({ name, tensor, settings: settings!, kernels, warn })
    const output = new ScaleTrack(inputMax(type), momentum, tensor.dtype as Arithmetic)
    return { ...linear, weight, output, firstScale: 0 }
  }

  /** The outputs of a linear: followed, and those of the first sequence quantised. */
  private async follow(site: Site, y: Float32Array, batch: number): Promise<Float32Array> {
    const largest = await this.largest(site, y, 'output')
    for (const [s, value] of largest.entries()) {
      const scale = site.output.see(value)
      if (batch + s === 0) site.firstScale = scale
    }
    if (batch > 0) return y
    const count = y.length / largest.length
    const first = Float32Array.of(site.firstScale)
    const quantized = y.slice()
    quantized.set(await quantizedInputs(y.subarray(0, count), count, first, this.type, this.block.kernels))
    return quantized
  }

  /** Largest magnitude of each sequence. Throws WeightError where a value is not finite. */
  private async largest(site: Site, values: Float32Array, what: string): Promise<Float32Array> {
    const width = what === 'input' ? this.block.graph.nodes[site.linear.x].width : site.linear.width
    const { low, high, bad } = await groupRanges(values, this.block.length * width, this.block.kernels)
    const { name } = site.tensor
    if (bad.includes(1))
      throw new WeightError(`Cannot calibrate "${name}": its ${what} is not finite in the calibration data`, {
        tensor: name,
        hint: 'the checkpoint may be damaged, or overflows on this text: try other data',
      })
    return low.map((least, s) => Math.max(-least, high[s]))
  }

  private checkSeen({ value }: ScaleTrack, [site]: readonly Site[]): void {
    if (value > 0) return
    const { name } = site.tensor
    throw new WeightError(`Cannot calibrate "${name}": its input is 0 in all calibration data, no scale follows`, {
      tensor: name,
      hint: 'use other data, or exclude this module',
    })
  }

  /** int8 outputs stay codes through ReLU: a linear behind it adopts their scale as long as they are quantised. */
  private quantizedBefore(x: number): Site | undefined {
    const node = this.block.graph.nodes[x]
    return node.op === 'activation' && node.kind === 'relu' && this.type === 'int8' ? this.sites.get(node.x) : undefined
  }

  /** The known values from which `node` follows. */
  private needed(node: number): Map<number, Activations> {
    return new Map([...reachedFrom(this.block.graph, node, this.known)].map((id) => [id, this.known.get(id)!]))
  }
}

const dtypeOf = ({ weight }: Site) => part(weight, 'scale').dtype as Arithmetic

/** The stops on the ways back from `node`. */
function reachedFrom(graph: Graph, node: number, stops: ReadonlyMap<number, unknown>): Set<number> {
  const found = new Set<number>()
  const left = [node]
  const seen = new Set(left)
  for (let id = left.pop(); id !== undefined; id = left.pop()) {
    if (stops.has(id)) {
      found.add(id)
      continue
    }
    for (const input of inputsOf(graph.nodes[id])) {
      if (seen.has(input)) continue
      seen.add(input)
      left.push(input)
    }
  }
  return found
}

/** All samples are joined and cut; a sequence is a batch of the reference. */
export const block: BlockMethod<Quanto, QuantoSettings> = {
  data: () => ({ cut: 'joined', length: CALIBRATION_LENGTH }),
  isNeeded: ({ settings }) => settings.activations !== null,
  feeds: 'returned',
  quantize: quantizeBlock,
}
