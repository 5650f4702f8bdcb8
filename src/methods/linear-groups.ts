// The linears of a decoder block by the values that they read: what a method that walks a block handles together.
import type { Graph, Node } from '../graph/types.ts'
import type { BlockTensor } from './calibration.ts'

export interface GroupedLinear<S> {
  /** Its node: the outputs. */
  readonly node: number
  readonly linear: Extract<Node, { op: 'linear' }>
  readonly tensor: BlockTensor<S>
}

/** Linears that read the same values, and the node of those. */
export interface LinearGroup<S> {
  readonly x: number
  readonly linears: readonly GroupedLinear<S>[]
}

/** The linears whose weights are among `tensors`, in the order of the graph: each group reads only what those before it have made. */
export function linearGroups<S>(graph: Graph, tensors: readonly BlockTensor<S>[]): LinearGroup<S>[] {
  const byPath = new Map(tensors.map((tensor) => [tensor.path, tensor]))
  const groups = new Map<number, GroupedLinear<S>[]>()
  graph.nodes.forEach((linear, node) => {
    const tensor = linear.op === 'linear' ? byPath.get(graph.parameters[linear.weight].path) : undefined
    if (linear.op !== 'linear' || !tensor) return
    const group = groups.get(linear.x)
    if (group) group.push({ node, linear, tensor })
    else groups.set(linear.x, [{ node, linear, tensor }])
  })
  return [...groups].map(([x, linears]) => ({ x, linears }))
}
