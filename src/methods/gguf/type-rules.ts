// Which tensor of a file gets which type: the rules of llama-quantize (llama.cpp/src/llama-quant.cpp) for every file type, and
// those of its converter (convert_hf_to_gguf.py --outtype). Names and order of tensors are GGUF's.
import { counted } from '../../core/counted.ts'
import { ConfigError, UnsupportedError } from '../../core/errors.ts'
import type { ModelInfo, QuantizationPlan, TensorInfo, TensorPlan } from '../types.ts'
import type { Gguf, GgufSettings } from './config.ts'
import {
  blockSize,
  type FileTypeName,
  fileType,
  isFloatType,
  isReadableType,
  isTensorType,
  type TensorType,
} from './file-types.ts'
import { importanceOf } from './imatrix.ts'
import { needsImportance } from './quantize-superblocks.ts'
import { categoryOf, layerOf, RoleRules } from './role-rules.ts'

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
  const types = tensorTypes(tensors, model, config)
  const plans = tensors.map((tensor, i) => planTensor(tensor, types[i], config, warnings))
  warnings.push(...fallbackWarnings(types), ...importanceWarnings(plans, tensors, config))
  return { tensors: plans, warnings, storedConfig: config.stored }
}

/**
 * A tensor that the matrix lacks is quantised without, as by llama-quantize; the tables of tokens are never in one. Throws ConfigError
 * where the matrix has none of the tensors: it is another model's.
 */
function importanceWarnings(
  plans: readonly TensorPlan<GgufSettings>[],
  tensors: readonly TensorInfo[],
  { imatrix, importance }: Gguf,
): string[] {
  if (!importance) return []
  const lacking: string[] = []
  let found = 0
  plans.forEach((plan, i) => {
    const { name } = tensors[i]
    if (plan.action !== 'quantize' || isFloatType(plan.settings.type) || TOKEN_TABLES.includes(name)) return
    if (plan.settings.importance) found++
    else lacking.push(name)
  })
  if (lacking.length === 0) return []
  if (found === 0)
    throw new ConfigError(
      `Cannot use the importance matrix "${imatrix}": it has none of the tensors that are quantised ("${lacking[0]}" ...), its first entry is "${importance.entries.keys().next().value}"`,
      {
        file: imatrix,
        tensor: lacking[0],
        hint: 'an importance matrix belongs to one model: collect it with the model that is to be quantised',
      },
    )
  const count = lacking.length === 1 ? '1 tensor is' : `${lacking.length} tensors are`
  return [
    `${count} not in the importance matrix and quantised without: ${lacking[0]}${lacking.length > 1 ? ' ...' : ''}`,
  ]
}

/** What each tensor becomes, whether or not it can be made so. */
export function tensorTypes(tensors: readonly TensorInfo[], model: ModelInfo, config: Gguf): Choice[] {
  if (model.container !== 'gguf' && isConverters(config)) return converterTypes(tensors, config)
  return quantizerTypes(tensors, model, config)
}

/** The type of a tensor with a note where it is a fallback, or why the tensor is left as it is. */
type Choice = { readonly type: TensorType; readonly note?: string } | { readonly reason: string }

/** One line for all tensors that fell back alike. */
function fallbackWarnings(choices: readonly Choice[]): string[] {
  const counts = new Map<string, number>()
  for (const choice of choices)
    if ('note' in choice && choice.note) counts.set(choice.note, (counts.get(choice.note) ?? 0) + 1)
  return [...counts].map(([note, count]) => `${counted(count, 'tensor')}: ${note}`)
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
  if (!isTensorType(type))
    throw new UnsupportedError(
      `Cannot make ${spelled} of "${tensor.name}": fewbit reads this type but does not write it`,
      {
        tensor: tensor.name,
        actual: type,
      },
    )
  const importance = isFloatType(type) ? undefined : importanceOf(config.importance, tensor, warnings)
  if (!importance && demandsImportance(tensor.name, type, config.type))
    throw new ConfigError(
      `Cannot make ${spelled} of "${tensor.name}": so few bits need an importance matrix${config.imatrix === null ? '' : `, and "${config.imatrix}" has no entry for this tensor`}`,
      {
        tensor: tensor.name,
        expected: 'an importance matrix',
        hint: TOKEN_TABLES.includes(tensor.name)
          ? 'another type for it: --token-embedding-type q4_k, or --output-tensor-type q6_k'
          : 'fewbit imatrix MODEL --calibration FILE -o imatrix.gguf, then --imatrix imatrix.gguf',
      },
    )
  return { action: 'quantize', settings: { type, importance }, note }
}

/** Never in an importance matrix, unless asked for. */
const TOKEN_TABLES: readonly string[] = ['token_embd.weight', 'output.weight']

/** Types that are garbage without importance; the tables of tokens do without where the type can at all. */
export const NEEDY: readonly TensorType[] = ['IQ1_S', 'IQ1_M', 'IQ2_XXS', 'IQ2_XS', 'IQ2_S', 'IQ3_XXS']

/** Files whose own type does not demand importance, but the type of some of their tensors does: k of iq3_xs is iq3_xxs. */
const NEEDY_IN_PART: readonly FileTypeName[] = ['q2_k_s', 'iq3_xs']

/** True where some tensor of such a file demands importance. */
export function needyFile(file: FileTypeName): boolean {
  return NEEDY.includes(fileType(file).type) || NEEDY_IN_PART.includes(file)
}

function demandsImportance(name: string, type: TensorType, file: FileTypeName): boolean {
  if (TOKEN_TABLES.includes(name)) return needsImportance(type)
  return NEEDY.includes(type) || (type === 'Q2_K' && file === 'q2_k_s')
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

/** The order in which llama-quantize takes and writes tensors: by layer, then by name's bytes. */
export function quantizerOrder(a: { readonly name: string }, b: { readonly name: string }): number {
  return layerOf(a.name) - layerOf(b.name) || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0)
}

function quantizerTypes(tensors: readonly TensorInfo[], model: ModelInfo, config: Gguf): Choice[] {
  const { type: defaultType } = fileType(config.type)
  const values = tensors.filter(
    (t) => categoryOf(t.name) === 'attn_v' && !leftAlone(t, config) && !askedType(t, config),
  ).length
  const rules = new RoleRules(tensors, values, model, config)
  const choices = new Map<TensorInfo, Choice>()
  for (const tensor of [...tensors].sort(quantizerOrder)) {
    const reason = leftAlone(tensor, config)
    if (reason) choices.set(tensor, { reason })
    else if (isFloatType(defaultType)) choices.set(tensor, { type: defaultType })
    else choices.set(tensor, chosen(tensor, defaultType, rules, config))
  }
  return tensors.map((tensor) => choices.get(tensor)!)
}

function chosen(tensor: TensorInfo, defaultType: TensorType, rules: RoleRules, config: Gguf): Choice {
  const { name } = tensor
  const asked = askedType(tensor, config)
  // the tables of single layers follow the token table, unless they are asked for by name
  if (config.tokenEmbeddingType && categoryOf(name) === 'token_embd' && (name === 'token_embd.weight' || !asked))
    return { type: config.tokenEmbeddingType }
  if (config.outputTensorType && name === 'output.weight') return { type: config.outputTensorType }
  const type = asked ?? (config.pure ? defaultType : rules.typeOf(tensor, defaultType))
  return withFallback(tensor, type)
}

function askedType({ name }: TensorInfo, config: Gguf): TensorType | undefined {
  return config.tensorTypes.find(({ pattern }) => pattern.test(name))?.type
}

/** For rows that hold no whole number of blocks of 256. */
const FALLBACK: Readonly<Partial<Record<TensorType, TensorType>>> = {
  Q2_K: 'Q4_0',
  Q3_K: 'Q4_0',
  Q2_0: 'Q4_0',
  TQ1_0: 'Q4_0',
  TQ2_0: 'Q4_0',
  Q4_K: 'Q5_0',
  Q5_K: 'Q5_1',
  Q6_K: 'Q8_0',
}

function fallbackOf(type: TensorType): TensorType {
  return FALLBACK[type] ?? (type.startsWith('IQ') && type !== 'IQ4_NL' ? 'IQ4_NL' : 'F16')
}

function withFallback({ shape }: TensorInfo, wanted: TensorType): Choice {
  const columns = shape[shape.length - 1]
  if (columns % blockSize(wanted) === 0) return { type: wanted }
  let type = fallbackOf(wanted)
  if (columns % blockSize(type) !== 0) type = 'F16'
  const note = `rows of ${columns} are no multiple of ${blockSize(wanted)}: ${type.toLowerCase()} instead of ${wanted.toLowerCase()}`
  return { type, note }
}
