// Lowered steps -> the numbers that native/kernels/engine/steps.h reads, field by field in its order.
import { UnsupportedError } from '../../core/errors.ts'
import type { Activation, AttentionSpec, Graph, Node } from '../../graph/types.ts'
import { INPUT_TYPES } from '../../weights/quantized-input.ts'
import type { Precision } from '../types.ts'
import type { FusedStep, Lowered } from './lower.ts'
import type { PreparedParameter } from './prepare.ts'

const OPS = [
  'embed',
  'linear',
  'int8_linear',
  'norm',
  'rotate',
  'attend',
  'activate',
  'add',
  'multiply',
  'scale',
  'softcap',
  'slice',
  'select',
  'input',
  'layer_norm',
] as const
const ACTIVATIONS: readonly Activation[] = ['silu', 'gelu', 'gelu_tanh', 'relu']
const PAGE_POSITIONS = 64
const HEAD_ALIGN = 16
const MAX_HEAD_DIM = 1024

export interface Program {
  readonly numbers: Float64Array
  /** Floats of one page of keys and values, all layers. */
  readonly pageFloats: number
}

/** linear::Mode of native/kernels/linear/linear.h. */
export const MODES: Readonly<Record<Precision, number>> = { exact: 0, fast: 1, fastest: 2 }

/**
 * What may be approximated in products with this weight: nothing where it is dense, nor where the method quantises the input itself (int8
 * codes of an input are multiplied as they are, which is exact).
 */
export function modeOf({ quantized, input }: PreparedParameter, mode: number): number {
  return quantized && !input ? mode : MODES.exact
}

/** Encodes `lowered`; parameter i of the graph is `parameters[i]`. `mode` says what may be approximated on quantised weights. */
export function encodeProgram(
  graph: Graph,
  lowered: Lowered,
  parameters: readonly PreparedParameter[],
  mode: number,
): Program {
  const encoder = new Encoder(graph, lowered, parameters, mode)
  const numbers = lowered.steps.flatMap((step) => encoder.encode(step))
  return { numbers: Float64Array.from(numbers), pageFloats: encoder.pageFloats }
}

class Encoder {
  private readonly graph: Graph
  private readonly lowered: Lowered
  private readonly parameters: readonly PreparedParameter[]
  private readonly mode: number
  /** Where each layer's keys and values begin in a page. */
  private readonly layers = new Map<number, { keys: number; values: number }>()
  pageFloats = 0

  constructor(graph: Graph, lowered: Lowered, parameters: readonly PreparedParameter[], mode: number) {
    this.graph = graph
    this.lowered = lowered
    this.parameters = parameters
    this.mode = mode
  }

  encode(step: FusedStep): number[] {
    switch (step.kind) {
      case 'linear':
        return this.linear(step)
      case 'gate': {
        const { x, kind, width } = step.activation
        return this.step('activate', step.node, [
          this.at(x),
          this.at(step.up),
          this.at(step.node),
          width,
          ACTIVATIONS.indexOf(kind),
        ])
      }
      case 'attention':
        return this.attention(step)
      case 'node':
        return this.node(step.node, step.spec)
      default:
        return step satisfies never
    }
  }

  /** op, length, whether it runs on the wanted rows, and the fields. */
  private step(op: (typeof OPS)[number], node: number, fields: readonly number[]): number[] {
    return [OPS.indexOf(op), fields.length + 3, Number(this.lowered.selected[node]), ...fields]
  }

  private at(value: number): number {
    return this.lowered.offsets[value]!
  }

  private pointer(parameter: number | undefined): number {
    return parameter === undefined ? 0 : this.parameters[parameter].pointer
  }

  private linear({ x, parts }: Extract<FusedStep, { kind: 'linear' }>): number[] {
    const xWidth = this.graph.nodes[x].width
    const { linear, node } = parts[0]
    const { int8 } = this.parameters[linear.weight]
    if (int8) {
      return this.step('int8_linear', node, [
        this.at(x),
        xWidth,
        this.at(node),
        linear.width,
        this.pointer(linear.weight),
        this.pointer(linear.bias),
        int8.absmax,
        int8.threshold,
      ])
    }
    const fields = parts.flatMap((part) => {
      const parameter = this.parameters[part.linear.weight]
      const { input } = parameter
      return [
        this.pointer(part.linear.weight),
        this.pointer(part.linear.bias),
        part.residual === undefined ? -1 : this.at(part.residual),
        this.at(part.node),
        part.linear.width,
        modeOf(parameter, this.mode),
        input?.scale ?? 0,
        input ? INPUT_TYPES.indexOf(input.type) : 0,
      ]
    })
    return this.step('linear', node, [this.at(x), xWidth, parts.length, ...fields])
  }

  private attention({ node, attention, q, k, qRope, kRope }: Extract<FusedStep, { kind: 'attention' }>): number[] {
    const { spec } = attention
    const { keys, values } = this.layer(spec)
    return this.step('attend', node, [
      this.at(q),
      this.at(k),
      this.at(attention.v),
      this.at(node),
      spec.heads,
      spec.kvHeads,
      spec.headDim,
      spec.scale,
      spec.window ?? 0,
      spec.softcap ?? 0,
      qRope,
      kRope,
      keys,
      values,
    ])
  }

  /** Room in a page for the keys and values of a layer. */
  private layer({ layer, kvHeads, headDim }: AttentionSpec): { keys: number; values: number } {
    const known = this.layers.get(layer)
    if (known) return known
    if (headDim > MAX_HEAD_DIM)
      throw new UnsupportedError(`Cannot run heads of ${headDim} values: the kernels take up to ${MAX_HEAD_DIM}`, {
        headDim,
      })
    const floats = kvHeads * headDim * PAGE_POSITIONS
    const place = { keys: this.pageFloats, values: this.pageFloats + floats }
    this.pageFloats = place.values + kvHeads * PAGE_POSITIONS * Math.ceil(headDim / HEAD_ALIGN) * HEAD_ALIGN
    this.layers.set(layer, place)
    return place
  }

  private node(id: number, node: Extract<FusedStep, { kind: 'node' }>['spec']): number[] {
    const y = this.at(id)
    switch (node.op) {
      case 'embedding':
        return this.step('embed', id, [y, this.pointer(node.weight), node.width, node.scale, -1])
      case 'positions':
        return this.step('embed', id, [y, this.pointer(node.weight), node.width, 1, node.offset])
      case 'input':
        return this.step('input', id, [y, node.width, this.inputFloats(node.index)])
      case 'layerNorm': {
        const fields = [this.pointer(node.weight), this.pointer(node.bias), node.width, node.eps]
        return this.step('layer_norm', id, [this.at(node.x), y, ...fields])
      }
      case 'rmsNorm':
      case 'headNorm':
        return this.norm(id, node)
      case 'rope':
        return this.step('rotate', id, [this.at(node.x), y, node.width, node.headDim, node.rope])
      case 'add':
        return this.step('add', id, [this.at(node.a), this.at(node.b), y, node.width])
      case 'mul':
        return this.step('multiply', id, [this.at(node.a), this.at(node.b), y, node.width])
      case 'activation':
        return this.step('activate', id, [this.at(node.x), -1, y, node.width, ACTIVATIONS.indexOf(node.kind)])
      case 'scale':
        return this.step('scale', id, [this.at(node.x), y, node.width, node.by, 0])
      case 'softcap':
        return this.step('softcap', id, [this.at(node.x), y, node.width, node.cap, 0])
      case 'slice':
        return this.step('slice', id, [this.at(node.x), y, node.width, node.from, this.graph.nodes[node.x].width])
      case 'selectRows':
        return this.step('select', id, [this.at(node.x), y, node.width, 0, 0])
      default:
        return node satisfies never
    }
  }

  /** Floats a row of the inputs before `index`. */
  private inputFloats(index: number): number {
    const before = this.graph.nodes.filter((node) => node.op === 'input' && node.index < index)
    return before.reduce((sum, node) => sum + node.width, 0)
  }

  private norm(id: number, node: Extract<Node, { op: 'rmsNorm' | 'headNorm' }>): number[] {
    const size = node.op === 'headNorm' ? node.headDim : node.width
    return this.step('norm', id, [
      this.at(node.x),
      this.at(id),
      this.pointer(node.weight),
      node.width,
      size,
      node.eps,
      Number(node.addOne),
    ])
  }
}
