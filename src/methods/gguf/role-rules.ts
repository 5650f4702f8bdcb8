// Which type a tensor gets by its role: the rules of llama-quantize (llama.cpp/src/llama-quant.cpp).
import type { ModelInfo, TensorInfo } from '../types.ts'
import type { Gguf } from './config.ts'
import { blockSize, type FileTypeName, type TensorType } from './file-types.ts'

type Category =
  | 'output'
  | 'token_embd'
  | 'attn_v'
  | 'attn_k'
  | 'attn_q'
  | 'attn_output'
  | 'ffn_up'
  | 'ffn_gate'
  | 'ffn_down'
  | 'other'

/** By substring, first match; the fused projections count as V. */
const CATEGORIES: readonly (readonly [string, Category])[] = [
  ['attn_qkv.weight', 'attn_v'],
  ['attn_kv_b.weight', 'attn_v'],
  ['attn_v.weight', 'attn_v'],
  ['attn_k.weight', 'attn_k'],
  ['attn_q.weight', 'attn_q'],
  ['attn_output.weight', 'attn_output'],
  ['ffn_up', 'ffn_up'],
  ['ffn_gate', 'ffn_gate'],
  ['ffn_down', 'ffn_down'],
]

export function categoryOf(name: string): Category {
  if (name === 'output.weight') return 'output'
  if (name === 'token_embd.weight' || name === 'per_layer_token_embd.weight') return 'token_embd'
  return CATEGORIES.find(([part]) => name.includes(part))?.[1] ?? 'other'
}

/** Layer number of `blk.N.`, -1 for the rest. */
export function layerOf(name: string): number {
  const match = /^blk\.(\d+)\./.exec(name)
  return match ? Number(match[1]) : -1
}

/** Files of one and two bits with grids, which follow rules of their own. */
const LOWEST: readonly FileTypeName[] = ['iq1_s', 'iq1_m', 'iq2_xxs', 'iq2_xs', 'iq2_s', 'iq2_m']

/** Files whose attn_output gets five bits in models of eight experts. */
const EXPERT_OUTPUTS: readonly FileTypeName[] = [
  'q2_k',
  'iq3_xs',
  'iq3_xxs',
  'q3_k_s',
  'q3_k_m',
  'iq4_nl',
  'q4_k_s',
  'q4_k_m',
  'iq3_s',
  'iq3_m',
  'iq4_xs',
]

/** The rules by role. Layers are counted by the tensors that reach a rule, in llama-quantize's order. */
export class RoleRules {
  private readonly config: Gguf
  private readonly fileType: FileTypeName
  private readonly layers: number
  private readonly gqa: number
  private readonly experts: number
  private readonly falcon: boolean
  private readonly is70B: boolean
  private readonly tied: boolean
  private readonly imatrix: boolean
  private readonly valueCount: number
  /** Tensors of a kind that came so far. */
  private readonly counts = { attn_v: 0, ffn_down: 0, ffn_up: 0, ffn_gate: 0 }

  /** `valueCount`: tensors of the kind attn_v that will reach a rule. */
  constructor(tensors: readonly TensorInfo[], valueCount: number, model: ModelInfo, config: Gguf) {
    const architecture = model.ggufArchitecture ?? 'llama'
    this.config = config
    this.fileType = config.type
    this.layers = model.layers
    this.gqa = Math.floor(model.heads / model.kvHeads)
    this.experts = model.experts ?? 0
    this.falcon = architecture === 'falcon'
    this.is70B = architecture === 'llama' && model.layers === 80 && this.gqa > 1
    this.tied = !tensors.some((t) => t.name === 'output.weight')
    this.imatrix = config.imatrix !== null
    this.valueCount = valueCount
  }

  /** The type of a tensor whose file type has `type` as its own. */
  typeOf(tensor: TensorInfo, type: TensorType): TensorType {
    const category = categoryOf(tensor.name)
    if (category === 'output' || (category === 'token_embd' && this.tied)) return this.head(tensor, type)
    if (this.isOneOf('mxfp4_moe')) return isStack(tensor) ? 'MXFP4' : 'Q8_0'
    if (category === 'token_embd') return this.embedding(type)
    if (this.isOneOf(...LOWEST)) return this.lowest(category, type)
    switch (category) {
      case 'attn_v':
        return this.attentionValue(type)
      case 'attn_k':
        return this.experts === 8 ? 'Q8_0' : this.attentionQuery(type)
      case 'attn_q':
        return this.attentionQuery(type)
      case 'attn_output':
        return this.attentionOutput(type)
      case 'ffn_down':
        return this.feedForwardDown(tensor, type)
      case 'ffn_up':
      case 'ffn_gate':
        return this.feedForwardIn(category, tensor, type)
      case 'other':
        return type
      default:
        return category satisfies never
    }
  }

  private isOneOf(...types: readonly FileTypeName[]): boolean {
    return types.includes(this.fileType)
  }

  private head({ shape }: TensorInfo, type: TensorType): TensorType {
    if (this.config.outputTensorType) return this.config.outputTensorType
    if (this.isOneOf('mxfp4_moe') || this.falcon || shape[shape.length - 1] % blockSize(type) !== 0) return 'Q8_0'
    if (this.isOneOf(...LOWEST, 'iq3_xxs')) return 'Q5_K'
    return type === 'Q8_0' ? type : 'Q6_K'
  }

  private embedding(type: TensorType): TensorType {
    if (this.isOneOf('iq1_s', 'iq1_m', 'iq2_xxs', 'iq2_xs')) return 'Q2_K'
    if (this.isOneOf('iq2_s', 'iq2_m', 'iq3_xxs')) return 'IQ3_S'
    return this.isOneOf('tq1_0', 'tq2_0', 'q2_0') ? 'Q4_K' : type
  }

  /** Files of one and two bits with grids. */
  private lowest(category: Category, type: TensorType): TensorType {
    const larger = this.isOneOf('iq2_s', 'iq2_m')
    const more = larger ? 'IQ3_S' : 'Q2_K'
    switch (category) {
      case 'attn_v':
        return this.gqa >= 4 || this.experts >= 4 ? 'Q4_K' : more
      case 'attn_k':
        return this.experts === 8 ? 'Q4_K' : type
      case 'ffn_down':
        return this.counts.ffn_down++ < Math.floor(this.layers / 8) ? more : type
      case 'attn_output':
        if (this.experts === 8) return 'Q5_K'
        if (this.isOneOf('iq1_s', 'iq1_m')) return 'IQ2_XXS'
        return larger ? 'IQ3_S' : type
      default:
        return type
    }
  }

  private attentionValue(type: TensorType): TensorType {
    const chosen = this.valueByFile(this.counts.attn_v++, type)
    if (this.experts === 8) return 'Q8_0'
    return this.is70B && (chosen === 'Q3_K' || chosen === 'Q4_K') ? 'Q5_K' : chosen
  }

  private valueByFile(i: number, type: TensorType): TensorType {
    const shared = this.gqa >= 4 // few heads of keys and values: more bits cost little
    switch (this.fileType) {
      case 'q2_k':
        return shared ? 'Q4_K' : 'Q3_K'
      case 'q2_k_s':
      case 'iq3_xs':
      case 'iq3_s':
        return shared ? 'Q4_K' : type
      case 'iq3_xxs':
        return shared ? 'Q4_K' : this.imatrix ? 'IQ3_XXS' : 'IQ3_S'
      case 'iq3_m':
        return 'Q4_K'
      case 'q3_k_m':
        return i < 2 ? 'Q5_K' : 'Q4_K'
      case 'q3_k_l':
        return 'Q5_K'
      case 'iq4_nl':
      case 'iq4_xs':
        return shared ? 'Q5_K' : type
      case 'q4_k_m':
      case 'q5_k_m':
        return hasMoreBits(i, this.valueCount) ? 'Q6_K' : type
      case 'q4_k_s':
        return i < 4 ? 'Q5_K' : type
      default:
        return type
    }
  }

  private attentionQuery(type: TensorType): TensorType {
    if (this.isOneOf('iq3_xs')) return 'IQ3_XXS'
    return this.isOneOf('iq3_xxs') ? 'IQ2_S' : type
  }

  private attentionOutput(type: TensorType): TensorType {
    if (this.falcon) return this.isOneOf('q3_k_l') ? 'Q4_K' : type
    if (this.experts === 8) return this.isOneOf(...EXPERT_OUTPUTS) ? 'Q5_K' : type
    switch (this.fileType) {
      case 'q2_k':
        return 'Q3_K'
      case 'iq3_xxs':
        return 'IQ3_S'
      case 'q3_k_m':
      case 'iq3_m':
        return 'Q4_K'
      case 'q3_k_l':
        return 'Q5_K'
      default:
        return type
    }
  }

  /** Number of the layer: what the name says where there are experts, for they may come in any order; else counted. */
  private layer(counter: keyof RoleRules['counts'], name: string): number {
    const counted = this.counts[counter]++
    return this.experts > 1 ? layerOf(name) : counted
  }

  private feedForwardIn(category: 'ffn_up' | 'ffn_gate', { name }: TensorInfo, type: TensorType): TensorType {
    const i = this.layer(category, name)
    const n = this.layers
    const middle = i >= Math.floor(n / 8) && i < Math.floor((7 * n) / 8)
    return this.isOneOf('iq3_xs') && middle ? 'IQ3_XXS' : type
  }

  private feedForwardDown({ name }: TensorInfo, type: TensorType): TensorType {
    const i = this.layer('ffn_down', name)
    const n = this.layers
    const early = i < Math.floor(n / 8)
    const earliest = i < Math.floor(n / 16)
    const more = hasMoreBits(i, n)
    switch (this.fileType) {
      case 'q2_k':
        return 'Q3_K'
      case 'q2_k_s':
        return early ? 'Q4_K' : type
      case 'iq3_xxs':
        return this.imatrix ? type : early ? 'Q4_K' : 'Q3_K'
      case 'q3_k_m':
        return earliest ? 'Q5_K' : !this.falcon || more ? 'Q4_K' : 'Q3_K'
      case 'iq3_m':
        return early || (this.experts === 8 && more) ? 'Q4_K' : type
      case 'q3_k_l':
        return this.falcon ? 'Q4_K' : 'Q5_K'
      case 'q4_k_m':
        if (this.falcon && earliest) return 'Q6_K'
        return more ? (this.falcon ? 'Q5_K' : 'Q6_K') : type
      case 'q5_k_m':
        return more ? 'Q6_K' : type
      case 'iq4_nl':
      case 'iq4_xs':
        return early && !this.imatrix ? 'Q5_K' : type
      case 'q4_k_s':
        return early && !this.falcon ? 'Q5_K' : type
      case 'q4_0':
        return early && this.imatrix ? 'Q4_1' : type
      case 'q5_0':
        return early && this.imatrix ? 'Q5_1' : type
      default:
        return type
    }
  }
}

/** Several matrices in one tensor: the experts of a layer. */
function isStack({ shape }: TensorInfo): boolean {
  return shape.length > 2 && shape[shape.length - 3] > 1
}

/** The first and last eighth of n layers, and every third between. */
function hasMoreBits(i: number, n: number): boolean {
  const eighth = Math.floor(n / 8)
  return i < eighth || i >= Math.floor((7 * n) / 8) || (i - eighth) % 3 === 2
}
