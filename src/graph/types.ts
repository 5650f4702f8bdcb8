// The graph language: a decoder written once per family, on opaque weights. Every value is a matrix [R rows, width] of float32,
// a row being one token of one sequence; what connects rows (attention, positions) is told by the batch at run time.

/** A weight as the graph sees it: a path and a shape. Its scheme is known only to whoever prepares it. */
export interface Parameter {
  /** e.g. `layers.0.self_attn.q_proj.weight`; names tables map it to Hugging Face and GGUF names. */
  readonly path: string
  /** [N, K] for `linear`, `embedding` (a row a token) and `positions` (a row a position), [N] for `vector`. */
  readonly shape: readonly number[]
  readonly kind: 'linear' | 'embedding' | 'positions' | 'vector'
}

/** One rotary table: `rotaryDim` of each head is rotated, halves paired (not interleaved). */
export interface RopeSpec {
  readonly id: string
  readonly rotaryDim: number
  /** Inverse frequencies [rotaryDim / 2] and the factor on cos and sin, for a sequence of `length` tokens. */
  frequencies(length: number): { readonly inverse: Float32Array; readonly scale: number }
  /** True where `frequencies` depends on `length` (dynamic, longrope). */
  readonly dependsOnLength: boolean
  /** dynamic: a sequence keeps the frequencies of its longest length until it is shorter than this. Absent: nothing is remembered. */
  readonly remembersUntil?: number
}

export interface AttentionSpec {
  readonly layer: number
  readonly heads: number
  readonly kvHeads: number
  readonly headDim: number
  readonly scale: number
  /** A key at most window - 1 positions back is seen; absent: all of them. */
  readonly window?: number
  /** tanh(score / cap) * cap before the mask. */
  readonly softcap?: number
}

/** Ids index `Graph.nodes`; parameters are indices into `Graph.parameters`. */
export type Node =
  | { readonly op: 'embedding'; readonly weight: number; readonly scale: number; readonly width: number }
  /** Values from outside, `RowBatch.inputs[index]`: where a piece of a graph begins (cut.ts). */
  | { readonly op: 'input'; readonly index: number; readonly width: number }
  /** Rows of a learned table [P, C], at the positions of the rows plus `offset`. */
  | { readonly op: 'positions'; readonly weight: number; readonly offset: number; readonly width: number }
  | {
      readonly op: 'linear'
      readonly x: number
      readonly weight: number
      readonly bias?: number
      readonly width: number
    }
  | {
      readonly op: 'rmsNorm'
      readonly x: number
      readonly weight: number
      readonly eps: number
      readonly addOne: boolean
      readonly width: number
    }
  /** (x - mean) / sqrt(variance + eps) * weight + bias. */
  | {
      readonly op: 'layerNorm'
      readonly x: number
      readonly weight: number
      readonly bias: number
      readonly eps: number
      readonly width: number
    }
  /** RMS norm of each run of `headDim` values (q/k norm). */
  | {
      readonly op: 'headNorm'
      readonly x: number
      readonly weight: number
      readonly eps: number
      readonly headDim: number
      readonly addOne: boolean
      readonly width: number
    }
  | { readonly op: 'rope'; readonly x: number; readonly rope: number; readonly headDim: number; readonly width: number }
  /** Appends k and v of these rows to the layer's cache, then attends. */
  | {
      readonly op: 'attention'
      readonly q: number
      readonly k: number
      readonly v: number
      readonly spec: AttentionSpec
      readonly width: number
    }
  | { readonly op: 'add'; readonly a: number; readonly b: number; readonly width: number }
  | { readonly op: 'mul'; readonly a: number; readonly b: number; readonly width: number }
  | { readonly op: 'activation'; readonly x: number; readonly kind: Activation; readonly width: number }
  | { readonly op: 'scale'; readonly x: number; readonly by: number; readonly width: number }
  | { readonly op: 'softcap'; readonly x: number; readonly cap: number; readonly width: number }
  | { readonly op: 'slice'; readonly x: number; readonly from: number; readonly width: number }
  /** Keeps only the rows whose logits are wanted; everything after it has that many rows. */
  | { readonly op: 'selectRows'; readonly x: number; readonly width: number }

export type Activation = 'silu' | 'gelu' | 'gelu_tanh' | 'relu'

export interface Graph {
  readonly nodes: readonly Node[]
  readonly parameters: readonly Parameter[]
  readonly ropes: readonly RopeSpec[]
  /** Node whose rows are the logits [R', V]. */
  readonly output: number
  /** Named values that tests and calibration may ask for, e.g. `layers.0` (the residual after layer 0). */
  readonly taps: Readonly<Record<string, number>>
  readonly layers: number
}

/** The nodes that `node` reads. */
export function inputsOf(node: Node): number[] {
  switch (node.op) {
    case 'embedding':
    case 'positions':
    case 'input':
      return []
    case 'attention':
      return [node.q, node.k, node.v]
    case 'add':
    case 'mul':
      return [node.a, node.b]
    default:
      return [node.x]
  }
}
