// Pieces of a graph as graphs of their own: what lies between some values and others. Calibration runs a model block by block, and
// parts of a block, with values that were recorded where the piece begins.
import { BugError } from '../core/errors.ts'
import { type Graph, inputsOf, type Node, type Parameter, type RopeSpec } from './types.ts'

export interface Piece {
  readonly graph: Graph
  /** Index of each parameter in the whole graph. */
  readonly parameters: readonly number[]
  /** Node of the piece for a node of the whole graph; undefined where it is no part of it. */
  readonly nodes: ReadonlyMap<number, number>
}

/** Tap of a piece's output `i`. */
export const outputTap = (i: number): string => `output.${i}`

/**
 * The nodes that lead from `inputs` to `outputs`; values at `inputs` come from `RowBatch.inputs` in that order, results are the taps
 * `output.0`, `output.1` ... (the first is the graph's output as well). Nodes that need neither stay as they are (embeddings).
 */
export function cutGraph(whole: Graph, inputs: readonly number[], outputs: readonly number[]): Piece {
  if (outputs.length === 0) throw new BugError('A piece of a graph needs an output')
  const isWanted = reached(whole, inputs, outputs)
  const nodes = new Map<number, number>()
  const parameters = new Numbering<Parameter>(whole.parameters)
  const ropes = new Numbering<RopeSpec>(whole.ropes)
  const cut: Node[] = []
  whole.nodes.forEach((node, id) => {
    if (!isWanted.has(id)) return
    const index = inputs.indexOf(id)
    const made =
      index >= 0 ? ({ op: 'input', index, width: node.width } as const) : moved(node, nodes, parameters, ropes)
    nodes.set(id, cut.push(made) - 1)
  })
  const taps = Object.fromEntries(outputs.map((id, i) => [outputTap(i), nodes.get(id)!]))
  const graph = {
    nodes: cut,
    parameters: parameters.taken,
    ropes: ropes.taken,
    output: taps[outputTap(0)],
    taps,
    layers: whole.layers,
  }
  return { graph, parameters: parameters.indices, nodes }
}

/** Everything that the outputs need, the inputs included but nothing before them. */
function reached(graph: Graph, inputs: readonly number[], outputs: readonly number[]): Set<number> {
  const wanted = new Set<number>(inputs)
  const left = outputs.filter((id) => !wanted.has(id))
  for (const id of outputs) wanted.add(id)
  for (let id = left.pop(); id !== undefined; id = left.pop()) {
    for (const input of inputsOf(graph.nodes[id])) {
      if (wanted.has(input)) continue
      wanted.add(input)
      left.push(input)
    }
  }
  return wanted
}

/** Numbers anew, in the order of first use, what nodes refer to by index. */
class Numbering<T> {
  readonly taken: T[] = []
  readonly indices: number[] = []
  private readonly all: readonly T[]
  constructor(all: readonly T[]) {
    this.all = all
  }

  of(index: number): number {
    const at = this.indices.indexOf(index)
    if (at >= 0) return at
    this.taken.push(this.all[index])
    return this.indices.push(index) - 1
  }
}

/** The node with its references renumbered. */
function moved(
  node: Node,
  nodes: ReadonlyMap<number, number>,
  parameters: Numbering<Parameter>,
  ropes: Numbering<RopeSpec>,
): Node {
  const edited: Record<string, unknown> = { ...node }
  for (const key of ['x', 'q', 'k', 'v', 'a', 'b'])
    if (typeof edited[key] === 'number') edited[key] = nodes.get(edited[key])
  for (const key of ['weight', 'bias']) if (typeof edited[key] === 'number') edited[key] = parameters.of(edited[key])
  if (node.op === 'rope') edited.rope = ropes.of(node.rope)
  return edited as unknown as Node
}

/** Paths of the parameters that lie in decoder blocks, block by block. */
export function blockParameters(graph: Graph): string[] {
  return blockSpans(graph).flatMap(({ input, output }) =>
    cutGraph(graph, [input], [output]).graph.parameters.map(({ path }) => path),
  )
}

/** Where a decoder block begins and ends, as nodes of the whole graph. */
export interface BlockSpan {
  readonly input: number
  readonly output: number
}

/** The blocks in order: from the tap `embedding` to `layers.0`, from there to `layers.1`, and so on. */
export function blockSpans({ taps }: Graph): BlockSpan[] {
  const spans: BlockSpan[] = []
  for (let input = taps.embedding, layer = 0; ; layer++) {
    const output = taps[`layers.${layer}`]
    if (output === undefined) return spans
    if (input === undefined) throw new BugError('A family taps "embedding" where its first block begins')
    spans.push({ input, output })
    input = output
  }
}
