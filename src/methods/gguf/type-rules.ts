// Which tensor of a file gets which type: the rules of llama-quantize (llama.cpp/src/llama-quant.cpp) for the file types of this release,
// and those of its converter (convert_hf_to_gguf.py --outtype). Names and order of tensors are GGUF's.
import { ConfigError, UnsupportedError } from '../../core/errors.ts'
import type { ModelInfo, QuantizationPlan, TensorInfo, TensorPlan } from '../types.ts'
import type { Gguf, GgufSettings } from './config.ts'
import { blockSize, type FileTypeName, fileType, isFloatType, isReadableType, type TensorType } from './file-types.ts'
import { importanceOf } from './imatrix.ts'

/** File types that the converter itself writes when the source is a model folder. */
const CONVERTER_TYPES: readonly FileTypeName[] = ['f32', 'f16', 'bf16', 'q8_0']

/** True where a file made from a model folder is the converter's own; else it is llama-quantize's, made of the converter's. */
export function isConverters(config: Gguf): boolean {
  const { type, leaveOutputTensor, tokenEmbeddingType, outputTensorType, tensorTypes, pure } = config
  if (leaveOutputTensor || tokenEmbeddingType || outputTensorType || tensorTypes.length > 0 || pure) return false
  return CONVERTER_TYPES.includes(type)
}

/** Plans every tensor. Throws ConfigError where the config cannot be met. */
export function plan(tensors: readonly TensorInfo[], model: ModelInfo, config: Gguf): QuantizationPlan<GgufSettings> {
  const warnings: string[] = []
  const types =
    model.container !== 'gguf' && isConverters(config)
      ? converterTypes(tensors, config)
      : quantizerTypes(tensors, model, config)
  const plans = tensors.map((tensor, i) => planTensor(tensor, types[i], config, warnings))
  warnings.push(...fallbackWarnings(types))
  return { tensors: plans, warnings, storedConfig: config.stored }
}

/** The type of a tensor with a note where it is a fallback, or why the tensor is left as it is. */
type Choice = { readonly type: TensorType; readonly note?: string } | { readonly reason: string }

/** One line for all tensors that fell back alike. */
function fallbackWarnings(choices: readonly Choice[]): string[] {
  const counts = new Map<string, number>()
  for (const choice of choices)
    if ('note' in choice && choice.note) counts.set(choice.note, (counts.get(choice.note) ?? 0) + 1)
  return [...counts].map(([note, count]) => `${count} ${count === 1 ? 'tensor' : 'tensors'}: ${note}`)
}

function planTensor(tensor: TensorInfo, choice: Choice, config: Gguf, warnings: string[]): TensorPlan<GgufSettings> {
  if ('reason' in choice) return { action: 'keep', reason: choice.reason }
  const { type, note } = choice
  const spelled = type.toLowerCase()
  if (type === tensor.dtype) return { action: 'keep', reason: note ?? `it is ${spelled} already` }
  if (!isReadableType(tensor.dtype))
    throw new UnsupportedError(
      `Cannot make ${spelled} of "${tensor.name}": fewbit cannot decode its type ${tensor.dtype}`,
      { tensor: tensor.name, actual: tensor.dtype },
    )
  if (!isFloatType(tensor.dtype) && !config.allowRequantize)
    throw new ConfigError(
      `Cannot make ${spelled} of "${tensor.name}": it is quantised already (${tensor.dtype.toLowerCase()}), and quantising twice loses quality`,
      {
        tensor: tensor.name,
        actual: tensor.dtype,
        hint: 'start from a f16, bf16 or f32 file, or add --allow-requantize',
      },
    )
  const columns = tensor.shape[tensor.shape.length - 1]
  if (columns % blockSize(type) !== 0)
    throw new ConfigError(
      `Cannot make ${spelled} of "${tensor.name}": its rows of ${columns} are no multiple of ${blockSize(type)}`,
      { tensor: tensor.name, expected: blockSize(type), actual: columns },
    )
  const importance = isFloatType(type) ? undefined : importanceOf(config.importance, tensor, warnings)
  return { action: 'quantize', settings: { type, importance }, note }
}

/** Dimensions above 1, as ggml counts them: a [1, K] tensor is a vector. */
function rank(shape: readonly number[]): number {
  const first = shape.findIndex((n) => n > 1)
  return first < 0 ? 1 : shape.length - first
}

// -------------------------------------------------------------------------------------------------- the converter

function converterTypes(tensors: readonly TensorInfo[], config: Gguf): Choice[] {
  const { type } = fileType(config.type)
  return tensors.map(({ name, shape }) => {
    if (shape.length < 2) return { reason: 'a vector stays f32' }
    if (name.endsWith('_norm.weight')) return { reason: 'a norm stays f32' }
    const columns = shape[shape.length - 1]
    if (columns % blockSize(type) === 0) return { type }
    return { type: 'F16', note: `rows of ${columns} are no multiple of ${blockSize(type)}: f16` }
  })
}

// -------------------------------------------------------------------------------------------------- llama-quantize

/** Parts of names that are never quantised, with the reason. */
const NEVER: readonly (readonly [string, string])[] = [
  ['_norm.weight', 'a norm is not quantised'],
  ['ffn_gate_inp.weight', 'a router is not quantised'],
  ['altup', 'a small mixing tensor is not quantised'],
  ['laurel', 'a small mixing tensor is not quantised'],
  ['per_layer_model_proj', 'a small mixing tensor is not quantised'],
  ['ssm_conv1d', 'a small convolution is not quantised'],
  ['shortconv.conv.weight', 'a small convolution is not quantised'],
  ['time_mix_first.weight', 'a small RWKV tensor is not quantised'],
  ['time_mix_w0.weight', 'a small RWKV tensor is not quantised'],
  ['time_mix_w1.weight', 'a small RWKV tensor is not quantised'],
  ['time_mix_w2.weight', 'a small RWKV tensor is not quantised'],
  ['time_mix_v0.weight', 'a small RWKV tensor is not quantised'],
  ['time_mix_v1.weight', 'a small RWKV tensor is not quantised'],
  ['time_mix_v2.weight', 'a small RWKV tensor is not quantised'],
  ['time_mix_a0.weight', 'a small RWKV tensor is not quantised'],
  ['time_mix_a1.weight', 'a small RWKV tensor is not quantised'],
  ['time_mix_a2.weight', 'a small RWKV tensor is not quantised'],
  ['time_mix_g1.weight', 'a small RWKV tensor is not quantised'],
  ['time_mix_g2.weight', 'a small RWKV tensor is not quantised'],
  ['time_mix_decay_w1.weight', 'a small RWKV tensor is not quantised'],
  ['time_mix_decay_w2.weight', 'a small RWKV tensor is not quantised'],
  ['time_mix_lerp_fused.weight', 'a small RWKV tensor is not quantised'],
  ['attn_rel_b.weight', 'a relative position bias is not quantised'],
  ['.position_embd', 'a position table is not quantised'],
  ['.patch_embd', 'a patch table is not quantised'],
  ['position_embd.weight', 'a position table is not quantised'],
  ['token_types.weight', 'a token type table is not quantised'],
]

/** Why llama-quantize leaves a tensor as it is, or undefined. */
function leftAlone(tensor: TensorInfo, config: Gguf): string | undefined {
  if (rank(tensor.shape) < 2) return 'a vector is not quantised'
  if (!tensor.name.endsWith('weight')) return 'not a weight'
  for (const [part, reason] of NEVER) if (tensor.name.includes(part)) return reason
  if (config.leaveOutputTensor && tensor.name === 'output.weight') return 'left by leave_output_tensor'
  return undefined
}

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

function categoryOf(name: string): Category {
  if (name === 'output.weight') return 'output'
  if (name === 'token_embd.weight' || name === 'per_layer_token_embd.weight') return 'token_embd'
  return CATEGORIES.find(([part]) => name.includes(part))?.[1] ?? 'other'
}

/** Layer number of `blk.N.`, -1 for the rest. */
function layerOf(name: string): number {
  const match = /^blk\.(\d+)\./.exec(name)
  return match ? Number(match[1]) : -1
}

/** The order in which llama-quantize takes and writes tensors: by layer, then by name's bytes. */
export function quantizerOrder(a: { readonly name: string }, b: { readonly name: string }): number {
  return layerOf(a.name) - layerOf(b.name) || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0)
}

function quantizerTypes(tensors: readonly TensorInfo[], model: ModelInfo, config: Gguf): Choice[] {
  const { type: defaultType } = fileType(config.type)
  const rules = new Rules(tensors, model, config)
  const choices = new Map<TensorInfo, Choice>()
  for (const tensor of [...tensors].sort(quantizerOrder)) {
    const reason = leftAlone(tensor, config)
    if (reason) choices.set(tensor, { reason })
    else if (isFloatType(defaultType)) choices.set(tensor, { type: defaultType })
    else choices.set(tensor, chosen(tensor, defaultType, rules, config))
  }
  return tensors.map((tensor) => choices.get(tensor)!)
}

function chosen(tensor: TensorInfo, defaultType: TensorType, rules: Rules, config: Gguf): Choice {
  const { name } = tensor
  if (config.tokenEmbeddingType && name === 'token_embd.weight') return { type: config.tokenEmbeddingType }
  if (config.outputTensorType && name === 'output.weight') return { type: config.outputTensorType }
  const type = askedType(tensor, config) ?? (config.pure ? defaultType : rules.typeOf(tensor, defaultType))
  return withFallback(tensor, type)
}

function askedType({ name }: TensorInfo, config: Gguf): TensorType | undefined {
  return config.tensorTypes.find(({ pattern }) => pattern.test(name))?.type
}

/** For rows that hold no whole number of blocks. */
const FALLBACK: Readonly<Partial<Record<TensorType, TensorType>>> = { Q4_K: 'Q5_0', Q5_K: 'Q5_1', Q6_K: 'Q8_0' }

function withFallback({ shape }: TensorInfo, wanted: TensorType): Choice {
  const columns = shape[shape.length - 1]
  if (columns % blockSize(wanted) === 0) return { type: wanted }
  let type = FALLBACK[wanted] ?? 'F16'
  if (columns % blockSize(type) !== 0) type = 'F16'
  const note = `rows of ${columns} are no multiple of ${blockSize(wanted)}: ${type.toLowerCase()} instead of ${wanted.toLowerCase()}`
  return { type, note }
}

/** The rules by role. Layers are counted by the tensors that reach a rule, in llama-quantize's order. */
class Rules {
  private readonly fileType: FileTypeName
  private readonly layers: number
  private readonly gqa: number
  private readonly experts: number
  private readonly falcon: boolean
  private readonly is70B: boolean
  private readonly tied: boolean
  private readonly imatrix: boolean
  private readonly valueCount: number
  private value = 0
  private down = 0

  constructor(tensors: readonly TensorInfo[], model: ModelInfo, config: Gguf) {
    const architecture = model.ggufArchitecture ?? 'llama'
    this.fileType = config.type
    this.layers = model.layers
    this.gqa = Math.floor(model.heads / model.kvHeads)
    this.experts = model.experts ?? 0
    this.falcon = architecture === 'falcon'
    this.is70B = architecture === 'llama' && model.layers === 80 && this.gqa > 1
    this.tied = !tensors.some((t) => t.name === 'output.weight')
    this.imatrix = config.imatrix !== null
    this.valueCount = tensors.filter(
      (t) => categoryOf(t.name) === 'attn_v' && !leftAlone(t, config) && !askedType(t, config),
    ).length
  }

  typeOf(tensor: TensorInfo, type: TensorType): TensorType {
    const category = categoryOf(tensor.name)
    switch (category) {
      case 'output':
        return this.head(tensor, type)
      case 'token_embd':
        return this.tied ? this.head(tensor, type) : type
      case 'attn_v':
        return this.attentionValue(type)
      case 'attn_k':
        return this.experts === 8 ? 'Q8_0' : type
      case 'attn_output':
        return this.experts === 8 && !this.falcon && this.isOneOf('q4_k_s', 'q4_k_m') ? 'Q5_K' : type
      case 'ffn_down':
        return this.feedForwardDown(tensor, type)
      case 'attn_q':
      case 'ffn_up':
      case 'ffn_gate':
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
    if (this.falcon || shape[shape.length - 1] % blockSize(type) !== 0) return 'Q8_0'
    return type === 'Q8_0' ? type : 'Q6_K'
  }

  private attentionValue(type: TensorType): TensorType {
    const i = this.value++
    if (this.experts === 8) return 'Q8_0'
    if (this.isOneOf('q4_k_m', 'q5_k_m') && hasMoreBits(i, this.valueCount)) return 'Q6_K'
    if (this.isOneOf('q4_k_s') && i < 4) return 'Q5_K'
    return this.is70B && type === 'Q4_K' ? 'Q5_K' : type
  }

  private feedForwardDown({ name }: TensorInfo, type: TensorType): TensorType {
    const counted = this.down++
    const i = this.experts > 1 ? layerOf(name) : counted
    const n = this.layers
    const early = i < Math.floor(n / 8)
    switch (this.fileType) {
      case 'q4_k_m':
        if (this.falcon && i < Math.floor(n / 16)) return 'Q6_K'
        return hasMoreBits(i, n) ? (this.falcon ? 'Q5_K' : 'Q6_K') : type
      case 'q5_k_m':
        return hasMoreBits(i, n) ? 'Q6_K' : type
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

/** The first and last eighth of n layers, and every third between. */
function hasMoreBits(i: number, n: number): boolean {
  const eighth = Math.floor(n / 8)
  return i < eighth || i >= Math.floor((7 * n) / 8) || (i - eighth) % 3 === 2
}
