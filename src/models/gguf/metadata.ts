// The key-values that llama.cpp's converter writes for a model folder, in its order: general, architecture, file type, extras; the
// tokenizer's follow. What it reads from a README.md is left out (`modelCardWarning` says so).
import { type GgufValue, ggufF32, ggufI32, ggufString, ggufU32 } from '../../checkpoint/gguf/metadata.ts'
import { isJsonObject, JsonNumber, type JsonObject, type PlainObject, toPlain } from '../../core/json.ts'
import type { DecoderConfig } from '../types.ts'
import { type ModelId, parseModelId, sizeLabel } from './model-id.ts'

/** GGML_QNT_VERSION. */
const QUANTIZATION_VERSION = 2

export interface DescribedModel {
  readonly architecture: string
  readonly config: DecoderConfig
  readonly configJson: JsonObject
  readonly generationConfig: JsonObject
  /** Name of the folder, without its path. */
  readonly folder: string
  /** Elements of all tensors of the file. */
  readonly parameters: number
  /** `general.file_type`. */
  readonly fileType: number
}

/** Every key before the tokenizer's. */
export function modelMetadata(model: DescribedModel): Map<string, GgufValue> {
  const { architecture, config } = model
  const out = new Map<string, GgufValue>()
  const u32 = (key: string, value: number) => out.set(`${architecture}.${key}`, ggufU32(value))
  out.set('general.architecture', ggufString(architecture))
  out.set('general.type', ggufString('model'))
  addSampling(out, model.generationConfig)
  addIdentity(out, model)
  u32('block_count', config.layers)
  u32('context_length', config.maxPositions)
  u32('embedding_length', config.hiddenSize)
  u32('feed_forward_length', config.intermediateSize)
  u32('attention.head_count', config.heads)
  u32('attention.head_count_kv', config.kvHeads)
  addRope(out, architecture, config, model.configJson)
  out.set(`${architecture}.attention.layer_norm_rms_epsilon`, ggufF32(config.normEps))
  // The reference reads the config through transformers, where all but Qwen2 have a head_dim whatever the file says.
  if (architecture !== 'qwen2' || isNumber(model.configJson.head_dim)) {
    u32('attention.key_length', config.headDim)
    u32('attention.value_length', config.headDim)
  }
  out.set('general.file_type', ggufU32(model.fileType))
  if (architecture === 'llama') {
    u32('vocab_size', config.vocabSize)
    u32('rope.dimension_count', config.headDim)
  }
  out.set('general.quantization_version', ggufU32(QUANTIZATION_VERSION))
  return out
}

function isNumber(value: unknown): boolean {
  return value instanceof JsonNumber
}

/** Keys of generation_config.json, in the order written; whole numbers are i32. */
export const SAMPLING: readonly (readonly [string, string, 'text' | 'whole' | 'float'])[] = [
  ['sequence', 'sequence', 'text'],
  ['top_k', 'top_k', 'whole'],
  ['top_p', 'top_p', 'float'],
  ['min_p', 'min_p', 'float'],
  ['xtc_probability', 'xtc_probability', 'float'],
  ['xtc_threshold', 'xtc_threshold', 'float'],
  ['temperature', 'temp', 'float'],
  ['penalty_last_n', 'penalty_last_n', 'whole'],
  ['penalty_repeat', 'penalty_repeat', 'float'],
  ['mirostat', 'mirostat', 'whole'],
  ['mirostat_tau', 'mirostat_tau', 'float'],
  ['mirostat_eta', 'mirostat_eta', 'float'],
]

function addSampling(out: Map<string, GgufValue>, generationConfig: JsonObject): void {
  for (const [key, name, kind] of SAMPLING) {
    const value = generationConfig[key]
    if (kind === 'text' && typeof value === 'string') out.set(`general.sampling.${name}`, ggufString(value))
    if (kind === 'text' || !(value instanceof JsonNumber)) continue
    out.set(`general.sampling.${name}`, kind === 'whole' ? ggufI32(value.value) : ggufF32(value.value))
  }
}

/** `_name_or_path` where it is a model's name and no path, then the folder's name, each filling what is still open. */
function addIdentity(out: Map<string, GgufValue>, { configJson, folder, parameters }: DescribedModel): void {
  const origin = configJson._name_or_path
  const ids = [origin, folder].filter((id): id is string => typeof id === 'string' && id.split('/').length <= 2)
  const parsed = ids.map((id) => parseModelId(id, parameters))
  const first = (key: keyof ModelId) => parsed.map((id) => id[key]).find((text) => text !== undefined)
  const text = (key: string, value: string | undefined) => {
    if (value !== undefined) out.set(`general.${key}`, ggufString(value))
  }
  text('name', first('title'))
  text('version', first('version'))
  text('organization', first('organization'))
  text('finetune', first('finetune'))
  text('basename', first('basename'))
  text('size_label', first('sizeLabel') ?? sizeLabel(parameters))
}

function addRope(
  out: Map<string, GgufValue>,
  architecture: string,
  config: DecoderConfig,
  configJson: JsonObject,
): void {
  const { rope } = config
  const key = (name: string) => `${architecture}.rope.${name}`
  const scaling = (name: string, value: number) => out.set(key(`scaling.${name}`), ggufF32(value))
  if (rope.type === 'linear' || rope.type === 'yarn') {
    out.set(key('scaling.type'), ggufString(rope.type))
    scaling('factor', rope.factor)
  }
  if (rope.type === 'yarn') {
    out.set(key('scaling.original_context_length'), ggufU32(rope.originalMaxPositions))
    const stated = statedRope(configJson)
    for (const [name, stored] of YARN) if (typeof stated[name] === 'number') scaling(stored, stated[name] as number)
  }
  if (rope.type === 'longrope') out.set(key('scaling.type'), ggufString('longrope'))
  out.set(key('freq_base'), ggufF32(rope.theta))
}

/** Written only where config.json states them. */
const YARN: readonly (readonly [string, string])[] = [
  ['extrapolation_factor', 'yarn_ext_factor'],
  ['attention_factor', 'yarn_attn_factor'],
  ['beta_fast', 'yarn_beta_fast'],
  ['beta_slow', 'yarn_beta_slow'],
]

function statedRope(configJson: JsonObject): PlainObject {
  const rope = configJson.rope_parameters ?? configJson.rope_scaling
  return isJsonObject(rope) ? (toPlain(rope) as PlainObject) : {}
}
