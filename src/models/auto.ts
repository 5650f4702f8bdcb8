// Picks the family by config.json's model_type.
import { UnsupportedError } from '../core/errors.ts'
import type { JsonObject } from '../core/json.ts'
import { llama } from './llama/index.ts'
import type { ModelFamily } from './types.ts'

/** Every registered family. */
export const MODEL_FAMILIES: readonly ModelFamily[] = [llama]

/** The family of a config.json. Throws UnsupportedError listing what is there. */
export function familyOf(config: JsonObject): ModelFamily {
  const found = MODEL_FAMILIES.find((family) => family.modelTypes.includes(String(config.model_type)))
  if (found) return found
  const known = MODEL_FAMILIES.flatMap((family) => family.modelTypes)
  throw new UnsupportedError(`Cannot run model_type "${String(config.model_type)}": fewbit knows ${known.join(', ')}`, {
    modelType: config.model_type,
    known,
  })
}
