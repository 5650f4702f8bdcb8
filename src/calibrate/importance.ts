// An importance matrix: for each linear of the decoder blocks the sum over all rows of its squared inputs, as llama-imatrix collects it on
// the original model, and the GGUF file that it is kept in.
import { type GgufValue, ggufString, ggufStrings, ggufU32 } from '../checkpoint/gguf/metadata.ts'
import { ggufLayout } from '../checkpoint/gguf/writer.ts'
import type { OutputStore } from '../checkpoint/types.ts'
import type { WorkOptions } from '../core/events.ts'
import { byCodePoint } from '../core/json.ts'
import type { QuantizerKernels } from '../core/kernels.ts'
import { blockSpans, cutGraph, type Piece } from '../graph/cut.ts'
import type { Graph } from '../graph/types.ts'
import type { Activations } from '../methods/calibration.ts'
import { columnSums } from '../methods/column-sums.ts'
import { IMATRIX_FILE } from '../methods/gguf/imatrix.ts'
import type { QuantizedWeight } from '../weights/weight.ts'
import type { PieceRunner } from './runner.ts'

/** One linear's input. */
export interface Importance {
  /** Its name in GGUF files, e.g. `blk.0.ffn_up.weight`. */
  readonly name: string
  /** Sum of squares of each column, [K]. */
  readonly sums: Float64Array
  /** Rows that were seen. */
  readonly count: number
}

export interface ImportanceModel {
  readonly graph: Graph
  load(path: string): Promise<QuantizedWeight>
  /** GGUF name of a parameter. */
  nameOf(path: string): string
}

/** Walks the blocks of the model as it is. */
export async function collectImportance(
  model: ImportanceModel,
  runner: PieceRunner,
  options: WorkOptions & { readonly kernels?: QuantizerKernels } = {},
): Promise<Importance[]> {
  const { graph } = model
  const weight = (path: string) => model.load(path)
  const spans = blockSpans(graph)
  const found: Importance[] = []
  let [inputs] = await runner.record({ graph, from: new Map(), to: [spans[0].input], weight })
  for (const [layer, { input, output }] of spans.entries()) {
    const block = cutGraph(graph, [input], [output])
    const seen = await walkBlock(block, inputs, runner, weight, options.kernels)
    await inputs.release()
    inputs = seen.outputs
    for (const [path, sums] of seen.sums) found.push({ name: model.nameOf(path), sums, count: runner.rows })
    options.onEvent?.({ event: 'progress', name: 'imatrix', done: layer + 1, total: spans.length, unit: 'blocks' })
  }
  await inputs.release()
  return found
}

/** One pass over a block: the sums of each linear by path, and what goes into the next block. */
async function walkBlock(
  { graph }: Piece,
  inputs: Activations,
  runner: PieceRunner,
  weight: (path: string) => Promise<QuantizedWeight>,
  kernels: QuantizerKernels | undefined,
): Promise<{ sums: Map<string, Float64Array>; outputs: Activations }> {
  const input = graph.nodes.findIndex((node) => node.op === 'input')
  const linears = graph.nodes.filter((node) => node.op === 'linear')
  const nodes = [...new Set(linears.map((node) => node.x))]
  const byNode = new Map(nodes.map((node) => [node, new Float64Array(graph.nodes[node].width)]))
  const run = { graph, from: new Map([[input, inputs]]), to: [graph.output, ...nodes], weight }
  const [outputs] = await runner.record(run, async ([output, ...values]) => {
    for (const [i, node] of nodes.entries()) {
      const sums = byNode.get(node)!
      const squares = await columnSums(values[i], sums.length, 'square', kernels)
      for (let k = 0; k < sums.length; k++) sums[k] += squares[k]
    }
    return [output]
  })
  const sums = new Map(linears.map((node) => [graph.parameters[node.weight].path, byNode.get(node.x)!]))
  return { sums, outputs }
}

export interface ImportanceFile {
  /** Names of the texts. */
  readonly datasets: readonly string[]
  readonly chunks: number
  /** Tokens of a chunk. */
  readonly chunkSize: number
}

/** Writes NAME.in_sum2 [K] and NAME.counts [1] in order of the names, and commits. */
export async function writeImportance(
  entries: readonly Importance[],
  { datasets, chunks, chunkSize }: ImportanceFile,
  output: OutputStore,
): Promise<void> {
  const metadata = new Map<string, GgufValue>([
    ['general.type', ggufString('imatrix')],
    ['imatrix.datasets', ggufStrings(datasets)],
    ['imatrix.chunk_count', ggufU32(chunks)],
    ['imatrix.chunk_size', ggufU32(chunkSize)],
  ])
  const sorted = [...entries].sort((a, b) => byCodePoint(a.name, b.name))
  const tensors = sorted.flatMap(({ name, sums, count }) => [
    { name: `${name}.in_sum2`, type: 'F32', shape: [sums.length], data: Float32Array.from(sums) },
    { name: `${name}.counts`, type: 'F32', shape: [1], data: Float32Array.of(count) },
  ])
  const { header, offsets, total } = ggufLayout(metadata, tensors)
  const sink = await output.create(output.single ?? IMATRIX_FILE)
  await sink.write(header)
  for (const [i, { data }] of tensors.entries()) await sink.writeAt(offsets[i], new Uint8Array(data.buffer))
  const last = tensors.length - 1
  const end = last < 0 ? header.length : offsets[last] + tensors[last].data.byteLength
  if (total > end) await sink.writeAt(end, new Uint8Array(total - end))
  await sink.close()
  await output.commit()
}
