// What a family of one's own is made of: the entry `fewbit/models`. It stands apart from `fewbit`, whose import loads nothing that runs
// models. Guide: docs/add-a-family.md.
export { type PlainObject, toPlain } from '../core/json.ts'
export { GraphBuilder, type Value } from '../graph/builder.ts'
export type { Graph } from '../graph/types.ts'
export { MODEL_FAMILIES, registerModel } from './auto.ts'
export { ConfigFields } from './decoder/fields.ts'
export { parseRope } from './decoder/rope-config.ts'
export type { ModelConfig, RopeConfig } from './model-config.ts'
export { addRopes } from './rope.ts'
export { EMBEDDING, HEAD, type ModelFamily, type ParameterName } from './types.ts'
