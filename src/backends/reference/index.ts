// The reference backend: interprets a plan step by step with ops.ts. Slow and exact; every other backend is measured against it.
import { BugError } from '../../core/errors.ts'
import { toFloat32 } from '../../core/half.ts'
import type { Graph, Node } from '../../graph/types.ts'
import { inputOf, quantizedInput } from '../../weights/quantized-input.ts'
import { decode, part, type QuantizedWeight } from '../../weights/weight.ts'
import { checkPositions, positionLimit } from '../batch.ts'
import { LengthMemory, ropeRows } from '../rope-table.ts'
import type { Backend, CompileOptions, Executable, RowBatch, WeightLoader } from '../types.ts'
import { int8Linear } from './int8-linear.ts'
import { activate, attend, layerNorm, linear, rmsNorm, rope } from './ops.ts'

/** Keys and values of one sequence and layer, growing by position. */
interface Cache {
  keys: Float32Array
  values: Float32Array
}

class ReferenceExecutable implements Executable {
  private readonly values: Float32Array[] = []
  private readonly decoded: Float32Array[]
  private readonly caches = new Map<number, Cache[]>()
  private readonly graph: Graph
  private readonly weights: readonly QuantizedWeight[]
  private readonly lengths = new LengthMemory()
  private readonly options: ReferenceOptions

  constructor(graph: Graph, weights: readonly QuantizedWeight[], options: ReferenceOptions) {
    this.graph = graph
    this.weights = weights
    this.options = options
    this.decoded = weights.map((w) => decode(w))
  }

  async run(batch: RowBatch): Promise<Float32Array> {
    checkPositions(batch, positionLimit(this.graph))
    const rows = batch.ids.length
    let count = rows
    for (let i = 0; i < this.graph.nodes.length; i++) {
      const node = this.graph.nodes[i]
      if (node.op === 'selectRows') count = batch.outputs.length
      this.values[i] = this.step(node, batch, count)
    }
    return this.values[this.graph.output]
  }

  private step(node: Node, batch: RowBatch, rows: number): Float32Array {
    const value = (id: number) => this.values[id]
    switch (node.op) {
      case 'embedding':
        return this.rows(node.weight, node.width, node.scale, batch.ids)
      case 'positions':
        return this.rows(
          node.weight,
          node.width,
          1,
          batch.positions.map((p) => p + node.offset),
        )
      case 'input':
        return batch.inputs![node.index]
      case 'linear':
        return this.linear(value(node.x), rows, node)
      case 'rmsNorm':
        return rmsNorm(value(node.x), this.decoded[node.weight], node.width, node.eps, node.addOne)
      case 'layerNorm':
        return layerNorm(value(node.x), this.decoded[node.weight], this.decoded[node.bias], node.eps)
      case 'headNorm':
        return rmsNorm(value(node.x), this.decoded[node.weight], node.headDim, node.eps, node.addOne)
      case 'rope': {
        const spec = this.graph.ropes[node.rope]
        const { cos, sin } = ropeRows(spec, batch, this.lengths)
        return rope(value(node.x), rows, node.width, node.headDim, spec.rotaryDim, cos, sin)
      }
      case 'attention':
        return this.attention(node, batch)
      case 'add':
        return value(node.a).map((x, i) => x + value(node.b)[i])
      case 'mul':
        return value(node.a).map((x, i) => x * value(node.b)[i])
      case 'activation':
        return activate(value(node.x), node.kind)
      case 'scale':
        return value(node.x).map((x) => x * node.by)
      case 'softcap':
        return value(node.x).map((x) => Math.tanh(x / node.cap) * node.cap)
      case 'slice':
        return this.columns(value(node.x), this.graph.nodes[node.x].width, node.from, node.width, rows)
      case 'selectRows':
        return this.selectRows(value(node.x), node.width, batch.outputs)
      default:
        return node satisfies never
    }
  }

  /** Rows of a table, times `scale`. */
  private rows(weight: number, width: number, scale: number, ids: Int32Array): Float32Array {
    const table = this.decoded[weight]
    const out = new Float32Array(ids.length * width)
    ids.forEach((id, r) => {
      for (let i = 0; i < width; i++) out[r * width + i] = table[id * width + i] * scale
    })
    return out
  }

  private linear(x: Float32Array, rows: number, node: Extract<Node, { op: 'linear' }>): Float32Array {
    const weight = this.weights[node.weight]
    const bias = node.bias === undefined ? undefined : this.decoded[node.bias]
    const [n, k] = weight.shape
    if (weight.scheme.kind === 'affine' && weight.scheme.activations)
      return int8Linear(x, rows, weight, bias, this.options.int8OutputScale)
    return linear(seenBy(weight, x), rows, this.decoded[node.weight], n, k, bias)
  }

  private attention(node: Extract<Node, { op: 'attention' }>, batch: RowBatch): Float32Array {
    const { spec } = node
    const kvWidth = spec.kvHeads * spec.headDim
    const q = this.values[node.q]
    const out = new Float32Array(q.length)
    for (let r = 0; r < batch.ids.length; r++) {
      const position = batch.positions[r]
      const cache = this.cache(batch.slots[r], spec.layer, (position + 1) * kvWidth)
      cache.keys.set(this.values[node.k].subarray(r * kvWidth, (r + 1) * kvWidth), position * kvWidth)
      cache.values.set(this.values[node.v].subarray(r * kvWidth, (r + 1) * kvWidth), position * kvWidth)
      const first = spec.window ? Math.max(0, position - spec.window + 1) : 0
      const row = attend(
        q.subarray(r * node.width, (r + 1) * node.width),
        cache.keys,
        cache.values,
        first,
        position,
        spec,
      )
      out.set(row, r * node.width)
    }
    return out
  }

  private cache(slot: number, layer: number, floats: number): Cache {
    let layers = this.caches.get(slot)
    if (!layers) this.caches.set(slot, (layers = []))
    let cache = layers[layer]
    if (!cache) layers[layer] = cache = { keys: new Float32Array(0), values: new Float32Array(0) }
    if (cache.keys.length < floats) {
      const grow = (old: Float32Array) => {
        const next = new Float32Array(Math.max(floats, old.length * 2))
        next.set(old)
        return next
      }
      cache.keys = grow(cache.keys)
      cache.values = grow(cache.values)
    }
    return cache
  }

  private columns(x: Float32Array, width: number, from: number, count: number, rows: number): Float32Array {
    const out = new Float32Array(rows * count)
    for (let r = 0; r < rows; r++) out.set(x.subarray(r * width + from, r * width + from + count), r * count)
    return out
  }

  private selectRows(x: Float32Array, width: number, outputs: Int32Array): Float32Array {
    const out = new Float32Array(outputs.length * width)
    outputs.forEach((row, i) => {
      out.set(x.subarray(row * width, (row + 1) * width), i * width)
    })
    return out
  }

  tap(name: string): Float32Array {
    const id = this.graph.taps[name]
    if (id === undefined || !this.values[id])
      throw new BugError(`The graph has no value named "${name}"`, { tap: name })
    return this.values[id]
  }

  truncate(slot: number, length: number): void {
    if (length === 0) this.caches.delete(slot)
  }

  memory(): { weightBytes: number; cacheBytes: number } {
    let cacheBytes = 0
    for (const layers of this.caches.values())
      for (const c of layers) cacheBytes += c.keys.byteLength + c.values.byteLength
    return { weightBytes: this.decoded.reduce((sum, w) => sum + w.byteLength, 0), cacheBytes }
  }

  kernels() {
    return this.graph.parameters.map((p, i) => ({
      parameter: p.path,
      kernel: 'reference f64',
      bytes: this.decoded[i].byteLength,
    }))
  }

  dispose(): void {
    this.caches.clear()
  }
}

export interface ReferenceOptions {
  /** LLM.int8: BITSANDBYTES_CPU_OUTPUT_SCALE where results of the reference's CPU code are to be repeated. */
  readonly int8OutputScale?: number
}

/** x as the linear with this weight sees it: itself where its input is not quantised. */
function seenBy(weight: QuantizedWeight, x: Float32Array): Float32Array {
  const input = inputOf(weight.scheme)
  return input ? quantizedInput(x, input.type, toFloat32(part(weight, 'inputScale'))[0]) : x
}

/** Opens the reference backend. */
export function openReference(referenceOptions: ReferenceOptions = {}): Backend {
  return {
    name: 'reference',
    describe: () => 'reference (TypeScript, float64 accumulation, one thread)',
    async compile(graph: Graph, load: WeightLoader, options: CompileOptions) {
      const weights: QuantizedWeight[] = []
      for (let i = 0; i < graph.parameters.length; i++) {
        options.signal?.throwIfAborted()
        weights.push(await load(i))
        options.onParameter?.(i + 1, graph.parameters.length)
      }
      return new ReferenceExecutable(graph, weights, referenceOptions)
    },
  }
}
