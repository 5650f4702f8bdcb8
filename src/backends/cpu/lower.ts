// Graph -> fused steps in the order in which the C++ engine runs them. Three fusions, all exact: an addition into the linear before it,
// an activation into the product that gates with it, rotations into the attention that reads them. Linears of one x become one step.
import { Arena } from '../../graph/arena.ts'
import { type Graph, inputsOf, type Node } from '../../graph/types.ts'

type Of<Op extends Node['op']> = Extract<Node, { op: Op }>

/** One output of a linear step: `node` is the value it writes (the sum's, where one is fused). */
export interface LinearPart {
  readonly node: number
  readonly linear: Of<'linear'>
  readonly residual?: number
}

export type FusedStep =
  | { readonly kind: 'linear'; readonly x: number; readonly parts: readonly LinearPart[] }
  | { readonly kind: 'gate'; readonly node: number; readonly activation: Of<'activation'>; readonly up: number }
  | {
      readonly kind: 'attention'
      readonly node: number
      readonly attention: Of<'attention'>
      readonly q: number
      readonly k: number
      /** Index of the rope that rotates q, k on the way, or -1. */
      readonly qRope: number
      readonly kRope: number
    }
  | { readonly kind: 'node'; readonly node: number; readonly spec: Exclude<Node, Of<'linear'> | Of<'attention'>> }

export interface Lowered {
  readonly steps: readonly FusedStep[]
  /** Offset of each value in its arena, in floats a row; undefined for values that are never stored. */
  readonly offsets: readonly (number | undefined)[]
  /** True for values of the wanted rows only, which have an arena of their own. */
  readonly selected: readonly boolean[]
  readonly rowFloats: number
  readonly selectedFloats: number
}

/** Outputs of one linear step at most (native/kernels/engine/linear_step.cc). */
const MAX_PARTS = 8

/** Lowers a graph. Values named in `keep` stay readable; `alone(parameter)` tells which linears take no part in a fusion. */
export function lower(graph: Graph, keep: readonly string[], alone: (parameter: number) => boolean): Lowered {
  const steps = fuse(graph, new Set(keep.map((name) => graph.taps[name])), alone)
  return place(graph, steps, keep)
}

/** The values that a step reads. */
export function readsOf(step: FusedStep): number[] {
  switch (step.kind) {
    case 'linear':
      return [step.x, ...step.parts.flatMap((p) => (p.residual === undefined ? [] : [p.residual]))]
    case 'gate':
      return [step.activation.x, step.up]
    case 'attention':
      return [step.q, step.k, step.attention.v]
    case 'node':
      return inputsOf(step.spec)
    default:
      return step satisfies never
  }
}

/** The values that a step writes. */
export function writesOf(step: FusedStep): number[] {
  return step.kind === 'linear' ? step.parts.map((p) => p.node) : [step.node]
}

class Fusion {
  readonly steps: FusedStep[] = []
  private readonly graph: Graph
  private readonly alone: (parameter: number) => boolean
  private readonly users: number[][]
  private readonly kept: ReadonlySet<number>
  private readonly done: boolean[] = []
  /** Linear -> the addition that it takes in. */
  private readonly sums = new Map<number, { node: number; residual: number }>()

  constructor(graph: Graph, kept: ReadonlySet<number>, alone: (parameter: number) => boolean) {
    this.graph = graph
    this.kept = kept
    this.alone = alone
    this.users = graph.nodes.map(() => [])
    graph.nodes.forEach((node, i) => {
      for (const input of inputsOf(node)) this.users[input].push(i)
    })
  }

  /** The node `id` if it is of kind `op` and only one other node reads it. */
  private private<Op extends Node['op']>(id: number, op: Op): Of<Op> | undefined {
    const node = this.graph.nodes[id]
    const hidden = this.users[id].length === 1 && !this.kept.has(id) && this.graph.output !== id
    return hidden && node.op === op ? (node as Of<Op>) : undefined
  }

  run(): void {
    const { nodes } = this.graph
    nodes.forEach((node, id) => {
      if (node.op === 'add') this.planSum(id, node)
    })
    nodes.forEach((node, id) => {
      if (!this.done[id]) this.emit(node, id)
    })
  }

  /** An addition whose later operand is a linear that nobody else reads becomes that linear's residual. */
  private planSum(id: number, { a, b }: Of<'add'>): void {
    const [linear, residual] = a > b ? [a, b] : [b, a]
    const found = a === b ? undefined : this.private(linear, 'linear')
    if (found && !this.alone(found.weight)) this.sums.set(linear, { node: id, residual })
  }

  private emit(node: Node, id: number): void {
    switch (node.op) {
      case 'linear':
        this.emitLinears(node, id)
        return
      case 'attention':
        this.emitAttention(node, id)
        return
      case 'mul':
        this.emitProduct(node, id)
        return
      case 'rope':
        if (this.users[id].length === 1 && !this.kept.has(id) && this.isRotatedInAttention(id)) return
        break
      case 'activation':
        if (this.private(id, 'activation') && this.gateOf(this.users[id][0]) === id) return
        break
    }
    this.push({ kind: 'node', node: id, spec: node as Exclude<Node, Of<'linear'> | Of<'attention'>> })
  }

  private push(step: FusedStep): void {
    this.steps.push(step)
    for (const id of writesOf(step)) this.done[id] = true
  }

  /** A linear and all later ones of the same x whose residual, if any, is there already. */
  private emitLinears(first: Of<'linear'>, id: number): void {
    const candidates = this.alone(first.weight) ? [id] : this.users[first.x].filter((user) => user >= id)
    const parts: LinearPart[] = []
    for (const candidate of candidates) {
      const linear = this.graph.nodes[candidate]
      if (linear.op !== 'linear' || this.done[candidate] || parts.length === MAX_PARTS) continue
      if (candidate !== id && this.alone(linear.weight)) continue
      const sum = this.sums.get(candidate)
      if (sum && candidate !== id && !this.done[sum.residual]) continue
      if (sum) parts.push({ node: sum.node, linear, residual: sum.residual })
      else parts.push({ node: candidate, linear })
      this.done[candidate] = true
    }
    this.push({ kind: 'linear', x: first.x, parts })
  }

  private isRotatedInAttention(id: number): boolean {
    const user = this.graph.nodes[this.users[id][0]]
    return user.op === 'attention' && user.v !== id && (user.q === id) !== (user.k === id)
  }

  private emitAttention(attention: Of<'attention'>, id: number): void {
    const rotated = (value: number) => {
      const rope = this.private(value, 'rope')
      return rope && this.isRotatedInAttention(value) ? { from: rope.x, rope: rope.rope } : { from: value, rope: -1 }
    }
    const q = rotated(attention.q)
    const k = rotated(attention.k)
    this.push({ kind: 'attention', node: id, attention, q: q.from, k: k.from, qRope: q.rope, kRope: k.rope })
  }

  /** The operand of product `id` whose activation is fused into it. */
  private gateOf(id: number): number | undefined {
    const node = this.graph.nodes[id]
    if (node.op !== 'mul' || node.a === node.b) return undefined
    return [node.a, node.b].find((operand) => this.private(operand, 'activation'))
  }

  private emitProduct(node: Of<'mul'>, id: number): void {
    const gate = this.gateOf(id)
    if (gate === undefined) this.push({ kind: 'node', node: id, spec: node })
    else {
      const activation = this.graph.nodes[gate] as Of<'activation'>
      this.push({ kind: 'gate', node: id, activation, up: node.a === gate ? node.b : node.a })
    }
  }
}

function fuse(graph: Graph, kept: ReadonlySet<number>, alone: (parameter: number) => boolean): FusedStep[] {
  const fusion = new Fusion(graph, kept, alone)
  fusion.run()
  return fusion.steps
}

/** Gives every stored value its place. */
function place(graph: Graph, steps: readonly FusedStep[], keep: readonly string[]): Lowered {
  const lastUse = new Map<number, number>()
  steps.forEach((step, i) => {
    for (const id of readsOf(step)) lastUse.set(id, i)
  })
  for (const id of [graph.output, ...keep.map((name) => graph.taps[name])]) lastUse.set(id, steps.length)
  const selection = graph.nodes.findIndex((node) => node.op === 'selectRows')
  const selected = graph.nodes.map((_, id) => selection >= 0 && id >= selection)
  const rows = new Arena()
  const wanted = new Arena()
  const offsets: (number | undefined)[] = []
  steps.forEach((step, i) => {
    for (const id of writesOf(step)) offsets[id] = (selected[id] ? wanted : rows).take(graph.nodes[id].width)
    for (const id of new Set([...readsOf(step), ...writesOf(step)])) {
      if ((lastUse.get(id) ?? i) <= i) (selected[id] ? wanted : rows).release(offsets[id]!, graph.nodes[id].width)
    }
  })
  return { steps, offsets, selected, rowFloats: rows.size, selectedFloats: wanted.size }
}
