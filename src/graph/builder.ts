// Builds a Graph. Families call these in order; widths are checked as the graph grows, so that a bad graph fails where it is written.
import { BugError } from '../core/errors.ts'
import type { Activation, AttentionSpec, Graph, Node, Parameter, RopeSpec } from './types.ts'

/** A value under construction: its node id and width. */
export interface Value {
  readonly id: number
  readonly width: number
}

export class GraphBuilder {
  private readonly nodes: Node[] = []
  private readonly parameters: Parameter[] = []
  private readonly byPath = new Map<string, number>()
  private readonly ropes: RopeSpec[] = []
  private readonly taps: Record<string, number> = {}
  private layers = 0

  private node(node: Node): Value {
    this.nodes.push(node)
    return { id: this.nodes.length - 1, width: node.width }
  }

  /** Declares (or finds) the parameter at `path`; the same path gives the same parameter, which is how heads are tied. */
  private parameter(path: string, shape: readonly number[], kind: Parameter['kind']): number {
    const at = this.byPath.get(path)
    if (at === undefined) {
      this.byPath.set(path, this.parameters.length)
      return this.parameters.push({ path, shape, kind }) - 1
    }
    if (String(this.parameters[at].shape) !== String(shape))
      throw new BugError(`Parameter "${path}" is used with two shapes`)
    return at
  }

  rope(spec: RopeSpec): number {
    const at = this.ropes.findIndex((r) => r.id === spec.id)
    return at >= 0 ? at : this.ropes.push(spec) - 1
  }

  /** Rows of the table [V, C] for the batch's ids, times `scale`. */
  embedding(path: string, vocabulary: number, width: number, scale = 1): Value {
    return this.node({ op: 'embedding', weight: this.parameter(path, [vocabulary, width], 'embedding'), scale, width })
  }

  /** Rows of the table [P, C] at each row's position plus `offset`. */
  positions(path: string, count: number, width: number, offset = 0): Value {
    return this.node({ op: 'positions', weight: this.parameter(path, [count, width], 'positions'), offset, width })
  }

  /** x [R, K] times W [N, K] transposed, plus bias [N]. `path` is the module's: `.weight` and `.bias` are appended. */
  linear(x: Value, path: string, width: number, options: { bias?: boolean; tied?: string } = {}): Value {
    const weight = this.parameter(
      options.tied ?? `${path}.weight`,
      [width, x.width],
      options.tied ? 'embedding' : 'linear',
    )
    const bias = options.bias ? this.parameter(`${path}.bias`, [width], 'vector') : undefined
    return this.node({ op: 'linear', x: x.id, weight, bias, width })
  }

  rmsNorm(x: Value, path: string, eps: number, addOne = false): Value {
    return this.node({
      op: 'rmsNorm',
      x: x.id,
      weight: this.parameter(`${path}.weight`, [x.width], 'vector'),
      eps,
      addOne,
      width: x.width,
    })
  }

  layerNorm(x: Value, path: string, eps: number): Value {
    return this.node({
      op: 'layerNorm',
      x: x.id,
      weight: this.parameter(`${path}.weight`, [x.width], 'vector'),
      bias: this.parameter(`${path}.bias`, [x.width], 'vector'),
      eps,
      width: x.width,
    })
  }

  headNorm(x: Value, path: string, headDim: number, eps: number, addOne = false): Value {
    return this.node({
      op: 'headNorm',
      x: x.id,
      weight: this.parameter(`${path}.weight`, [headDim], 'vector'),
      eps,
      headDim,
      addOne,
      width: x.width,
    })
  }

  rotate(x: Value, rope: number, headDim: number): Value {
    return this.node({ op: 'rope', x: x.id, rope, headDim, width: x.width })
  }

  attention(q: Value, k: Value, v: Value, spec: AttentionSpec): Value {
    if (q.width !== spec.heads * spec.headDim || k.width !== spec.kvHeads * spec.headDim || v.width !== k.width) {
      throw new BugError(
        `Attention of layer ${spec.layer}: widths ${q.width}, ${k.width}, ${v.width} do not fit its heads`,
      )
    }
    this.layers = Math.max(this.layers, spec.layer + 1)
    return this.node({ op: 'attention', q: q.id, k: k.id, v: v.id, spec, width: q.width })
  }

  add(a: Value, b: Value): Value {
    return this.binary('add', a, b)
  }

  mul(a: Value, b: Value): Value {
    return this.binary('mul', a, b)
  }

  private binary(op: 'add' | 'mul', a: Value, b: Value): Value {
    if (a.width !== b.width) throw new BugError(`${op}: widths ${a.width} and ${b.width} differ`)
    return this.node({ op, a: a.id, b: b.id, width: a.width })
  }

  activation(x: Value, kind: Activation): Value {
    return this.node({ op: 'activation', x: x.id, kind, width: x.width })
  }

  scale(x: Value, by: number): Value {
    return by === 1 ? x : this.node({ op: 'scale', x: x.id, by, width: x.width })
  }

  softcap(x: Value, cap: number): Value {
    return this.node({ op: 'softcap', x: x.id, cap, width: x.width })
  }

  slice(x: Value, from: number, width: number): Value {
    return this.node({ op: 'slice', x: x.id, from, width })
  }

  selectRows(x: Value): Value {
    return this.node({ op: 'selectRows', x: x.id, width: x.width })
  }

  tap(name: string, x: Value): void {
    this.taps[name] = x.id
  }

  finish(output: Value): Graph {
    return {
      nodes: this.nodes,
      parameters: this.parameters,
      ropes: this.ropes,
      output: output.id,
      taps: this.taps,
      layers: this.layers,
    }
  }
}
