// A plan is a graph made into plain data: steps in order, each with the buffer it writes. Offsets are in floats per row: a backend
// multiplies by its rows.
import { Arena } from './arena.ts'
import { type Graph, inputsOf, type Node } from './types.ts'

export interface Step {
  readonly node: number
  readonly spec: Node
  /** Where the result lies: floats per row from the start of the arena. */
  readonly offset: number
  /** True for steps after selectRows: they run on the selected rows only. */
  readonly selected: boolean
}

export interface Plan {
  readonly graph: Graph
  readonly steps: readonly Step[]
  /** Floats per row of the whole arena. */
  readonly rowFloats: number
  /** Offset of each node's value. */
  readonly offsets: readonly number[]
}

/** Compiles a graph. Nodes named in `keep` stay readable after the run. */
export function compilePlan(graph: Graph, keep: readonly string[] = []): Plan {
  const lastUse = new Array<number>(graph.nodes.length).fill(-1)
  graph.nodes.forEach((node, i) => {
    for (const input of inputsOf(node)) lastUse[input] = i
  })
  lastUse[graph.output] = graph.nodes.length
  for (const name of keep) lastUse[graph.taps[name]] = graph.nodes.length

  const arena = new Arena()
  const offsets: number[] = []
  const steps: Step[] = []
  let selected = false
  graph.nodes.forEach((spec, node) => {
    offsets[node] = arena.take(spec.width)
    if (spec.op === 'selectRows') selected = true
    steps.push({ node, spec, offset: offsets[node], selected })
    for (const input of new Set(inputsOf(spec))) {
      if (lastUse[input] === node) arena.release(offsets[input], graph.nodes[input].width)
    }
  })
  return { graph, steps, rowFloats: arena.size, offsets }
}

/** One line a step, for FEWBIT_DEBUG and `explain --plan`. */
export function printPlan(plan: Plan): string {
  const rows = plan.steps.map(({ node, spec, offset }) => {
    const parameter = 'weight' in spec ? ` ${plan.graph.parameters[spec.weight].path}` : ''
    return `%${node} = ${spec.op}(${inputsOf(spec)
      .map((i) => `%${i}`)
      .join(', ')})${parameter}  [R, ${spec.width}] @${offset}`
  })
  return [...rows, `arena: ${plan.rowFloats} floats a row`].join('\n')
}
