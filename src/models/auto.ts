// Picks the family by config.json's model_type.
import { UnsupportedError, UsageError } from '../core/errors.ts'
import { type JsonObject, writeJson } from '../core/json.ts'
import { gemma, gemma2, gemma3 } from './families/gemma.ts'
import { gpt2 } from './families/gpt2.ts'
import { granite } from './families/granite.ts'
import { llama } from './families/llama.ts'
import { mistral } from './families/mistral.ts'
import { olmo2 } from './families/olmo2.ts'
import { opt } from './families/opt.ts'
import { phi3 } from './families/phi3.ts'
import { qwen2 } from './families/qwen2.ts'
import { qwen3 } from './families/qwen3.ts'
import { smollm3 } from './families/smollm3.ts'
import type { ModelConfig } from './model-config.ts'
import type { ModelFamily } from './types.ts'

const families: ModelFamily[] = [
  llama,
  mistral,
  qwen2,
  qwen3,
  gemma,
  gemma2,
  gemma3,
  phi3,
  smollm3,
  granite,
  olmo2,
  gpt2,
  opt,
]

/** Every registered family. */
export const MODEL_FAMILIES: readonly ModelFamily[] = families

/** Adds a family of one's own. A model_type that is taken is an error. */
export function registerModel<C extends ModelConfig>(family: ModelFamily<C>): void {
  const taken = family.modelTypes.find((type) => families.some((other) => other.modelTypes.includes(type)))
  if (taken !== undefined)
    throw new UsageError(`A family for model_type "${taken}" is registered already`, { modelType: taken })
  families.push(family as unknown as ModelFamily)
}

/** Whether a family has this `model_type`. */
export function isModelType(type: unknown): boolean {
  return typeof type === 'string' && MODEL_FAMILIES.some((family) => family.modelTypes.includes(type))
}

/** The family of a config.json. Throws UnsupportedError listing what is there. */
export function familyOf(config: JsonObject): ModelFamily {
  const modelType = config.model_type
  const found = MODEL_FAMILIES.find((family) => typeof modelType === 'string' && family.modelTypes.includes(modelType))
  if (found) return found
  const known = MODEL_FAMILIES.flatMap((family) => family.modelTypes)
  const problem = modelType === undefined ? 'a config.json without "model_type"' : `model_type ${writeJson(modelType)}`
  throw new UnsupportedError(`Cannot run ${problem}: fewbit knows ${known.join(', ')}`, { modelType, known })
}
