// The public API. Nothing heavy is loaded before it is used.
export {
  BitsAndBytesConfig,
  type BitsAndBytesOptions,
  configFromStored,
  GgufConfig,
  type GgufOptions,
  HqqConfig,
  type HqqOptions,
  QuantizationConfig,
} from './api/configs.ts'
export type { ModelLocation, OutputLocation } from './api/location.ts'
export { AutoModelForCausalLM, type CausalLM, type LoadOptions } from './api/model.ts'
export { AutoTokenizer } from './api/tokenizer.ts'
export { blobFiles } from './checkpoint/blob.ts'
export type { FileSet } from './checkpoint/types.ts'
export * from './core/errors.ts'
export { methods, registerMethod } from './methods/index.ts'
export type { Method } from './methods/types.ts'
