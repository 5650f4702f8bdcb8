// The key-values that llama.cpp's converter writes for a model folder, in its order: general, architecture, file type, extras; the
// tokenizer's follow. What it reads from a README.md is left out (`modelCardWarning` says so).
import { type GgufValue, ggufF32, ggufI32, ggufString, ggufU32 } from '../../checkpoint/gguf/metadata.ts'
import { JsonNumber, type JsonObject } from '../../core/json.ts'
import type { ModelConfig } from '../model-config.ts'
import { type ModelId, parseModelId, sizeLabel } from './model-id.ts'
import { ArchitectureKeys, type GgufProfile } from './profile.ts'

/** GGML_QNT_VERSION. */
const QUANTIZATION_VERSION = 2

export interface DescribedModel<C extends ModelConfig = ModelConfig> {
  readonly profile: GgufProfile<C>
  readonly config: C
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
export function modelMetadata<C extends ModelConfig>(model: DescribedModel<C>): Map<string, GgufValue> {
  const { profile, config, configJson, fileType } = model
  const out = new Map<string, GgufValue>()
  const keys = new ArchitectureKeys(out, profile.architecture, config, configJson, fileType)
  out.set('general.architecture', ggufString(profile.architecture))
  profile.writeFirst?.(keys)
  out.set('general.type', ggufString('model'))
  addSampling(out, model.generationConfig)
  addIdentity(out, model)
  profile.writeKeys(keys)
  out.set('general.quantization_version', ggufU32(QUANTIZATION_VERSION))
  return out
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
function addIdentity(
  out: Map<string, GgufValue>,
  { configJson, folder, parameters }: Pick<DescribedModel, 'configJson' | 'folder' | 'parameters'>,
): void {
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
