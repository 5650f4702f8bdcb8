// A plan is a graph made into plain data: steps in order, each with the buffer it writes. Buffers are planned by first and last use,
// so that a step never writes over a value that is still to be read. Offsets are in floats per row: a backend multiplies by its rows.
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

/** Buffers start at multiples of this many floats (64 bytes). */
const ALIGN = 16

/** Compiles a graph. Nodes named in `keep` stay readable after the run. */
export function compilePlan(graph: Graph, keep: readonly string[] = []): Plan {
  const lastUse = new Array<number>(graph.nodes.length).fill(-1)
  graph.nodes.forEach((node, i) => {
    for (const input of inputsOf(node)) lastUse[input] = i
  })
  lastUse[graph.output] = graph.nodes.length
  for (const name of keep) lastUse[graph.taps[name]] = graph.nodes.length

  const free: { offset: number; size: number }[] = []
  let top = 0
  const take = (size: number): number => {
    const at = free.findIndex((hole) => hole.size >= size)
    if (at < 0) {
      top += size
      return top - size
    }
    const hole = free[at]
    if (hole.size === size) free.splice(at, 1)
    else free[at] = { offset: hole.offset + size, size: hole.size - size }
    return hole.offset
  }
  const sizeOf = (id: number) => Math.ceil(graph.nodes[id].width / ALIGN) * ALIGN

  const offsets: number[] = []
  const steps: Step[] = []
  let selected = false
  graph.nodes.forEach((spec, node) => {
    offsets[node] = take(sizeOf(node))
    if (spec.op === 'selectRows') selected = true
    steps.push({ node, spec, offset: offsets[node], selected })
    for (const input of new Set(inputsOf(spec))) {
      if (lastUse[input] === node) release(free, offsets[input], sizeOf(input))
    }
  })
  return { graph, steps, rowFloats: top, offsets }
}

/** Returns a hole to the list, joined with its neighbours. */
function release(free: { offset: number; size: number }[], offset: number, size: number): void {
  free.push({ offset, size })
  free.sort((a, b) => a.offset - b.offset)
  for (let i = free.length - 1; i > 0; i--) {
    if (free[i - 1].offset + free[i - 1].size !== free[i].offset) continue
    free[i - 1] = { offset: free[i - 1].offset, size: free[i - 1].size + free[i].size }
    free.splice(i, 1)
  }
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
