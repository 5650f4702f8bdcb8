// Which operation feeds which linears, read off a block's graph: factors that a group of linears is multiplied by are divided out of the
// operation before it. No model is known by name.
import { type Graph, inputsOf, type Node } from '../../graph/types.ts'

/** What is divided: a norm, or the last rows of a linear. */
export interface PreviousOp {
  readonly kind: 'norm' | 'linear'
  readonly weight: string
  readonly bias?: string
  /** Gemma's norms multiply by 1 + weight. */
  readonly addOne?: boolean
}

export interface ScaleGroup {
  readonly previous: PreviousOp
  /** Weights that share the input, by path. */
  readonly linears: readonly string[]
  /** Node of that input. */
  readonly input: number
  /** Node whose values tell how much is lost: the end of the attention or the MLP, or the linear itself. */
  readonly inspected: number
  /** The inspected node is the only linear of the group. */
  readonly isAlone: boolean
}

type Of<Op extends Node['op']> = Extract<Node, { op: Op }>

/** The groups of a block in the order of their linears. */
export function scaleGroups(graph: Graph): ScaleGroup[] {
  return new GroupFinder(graph).groups()
}

/** Nodes of the linears of a graph, in order. */
export function linearsOf(graph: Graph): Of<'linear'>[] {
  return graph.nodes.filter((node): node is Of<'linear'> => node.op === 'linear')
}

class GroupFinder {
  private readonly graph: Graph
  private readonly users: number[][]

  constructor(graph: Graph) {
    this.graph = graph
    this.users = graph.nodes.map(() => [])
    graph.nodes.forEach((node, id) => {
      for (const input of new Set(inputsOf(node))) this.users[input].push(id)
    })
  }

  groups(): ScaleGroup[] {
    const byInput = new Map<number, number[]>()
    this.graph.nodes.forEach((node, id) => {
      if (node.op === 'linear') byInput.set(node.x, [...(byInput.get(node.x) ?? []), id])
    })
    const groups: ScaleGroup[] = []
    for (const [input, linears] of byInput) {
      const isPrivate = this.users[input].length === linears.length && this.graph.output !== input
      const previous = isPrivate ? this.previous(input, linears) : undefined
      if (!previous) continue
      const inspected =
        previous.kind === 'norm' ? this.moduleEnd(linears) : linears.length === 1 ? linears[0] : undefined
      if (inspected === undefined) continue
      const paths = linears.map((id) => this.path((this.graph.nodes[id] as Of<'linear'>).weight))
      const isAlone = linears.length === 1 && inspected === linears[0]
      groups.push({ previous, linears: paths, input, inspected, isAlone })
    }
    return groups
  }

  private path(parameter: number): string {
    return this.graph.parameters[parameter].path
  }

  private named(weight: number, bias: number | undefined) {
    return { weight: this.path(weight), bias: bias === undefined ? undefined : this.path(bias) }
  }

  /** What makes the value `input`, where dividing it divides the value. */
  private previous(input: number, linears: readonly number[]): PreviousOp | undefined {
    const node = this.graph.nodes[input]
    switch (node.op) {
      case 'rmsNorm':
        return { kind: 'norm', ...this.named(node.weight, undefined), addOne: node.addOne }
      case 'layerNorm':
        return { kind: 'norm', ...this.named(node.weight, node.bias) }
      case 'mul':
        return this.product(node)
      case 'activation':
        // relu(x / s) = relu(x) / s; no other activation lets a factor through.
        return node.kind === 'relu' ? this.linearRows(node.x) : undefined
      case 'attention':
        return this.attended(node, linears)
      default:
        return undefined
    }
  }

  /** gate(x) * up(x): the side without the activation. */
  private product({ a, b }: Of<'mul'>): PreviousOp | undefined {
    const isGate = (id: number) => this.graph.nodes[id].op === 'activation'
    if (isGate(a) === isGate(b)) return undefined
    return this.linearRows(isGate(a) ? b : a)
  }

  /** v of an attention whose heads have each their own: the reference asks for equal shapes of v and o, or v inside a fused linear. */
  private attended({ v, width }: Of<'attention'>, linears: readonly number[]): PreviousOp | undefined {
    const value = this.graph.nodes[v]
    if (value.width !== width) return undefined
    const isFused = value.op === 'slice'
    const output = this.graph.nodes[linears[0]] as Of<'linear'>
    const source = value.op === 'linear' ? this.graph.parameters[value.weight].shape : undefined
    if (!isFused && String(source) !== String(this.graph.parameters[output.weight].shape)) return undefined
    return this.linearRows(v)
  }

  /** The linear that makes value `id` and nothing else; in a fused one, its last rows. */
  private linearRows(id: number): PreviousOp | undefined {
    if (this.users[id].length !== 1) return undefined
    const node = this.graph.nodes[id]
    if (node.op === 'linear') return { kind: 'linear', ...this.named(node.weight, node.bias) }
    if (node.op !== 'slice') return undefined
    const whole = this.graph.nodes[node.x]
    const isEnd = whole.op === 'linear' && node.from + node.width === whole.width
    return isEnd ? { kind: 'linear', ...this.named(whole.weight, whole.bias) } : undefined
  }

  /** The one linear that all of `linears` lead to; a lone linear that is not sliced is inspected itself. */
  private moduleEnd(linears: readonly number[]): number | undefined {
    const isSliced = (id: number) => this.users[id].some((user) => this.graph.nodes[user].op === 'slice')
    if (linears.length === 1 && !isSliced(linears[0])) return linears[0]
    const ends = new Set(linears.flatMap((id) => this.nextLinears(id)))
    return ends.size === 1 ? [...ends][0] : undefined
  }

  private nextLinears(from: number): number[] {
    const found: number[] = []
    const seen = new Set<number>()
    const left = [...this.users[from]]
    for (let id = left.pop(); id !== undefined; id = left.pop()) {
      if (seen.has(id)) continue
      seen.add(id)
      if (this.graph.nodes[id].op === 'linear') found.push(id)
      else left.push(...this.users[id])
    }
    return found
  }
}
