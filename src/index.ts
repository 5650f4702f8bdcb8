// The public API. Nothing heavy is loaded before it is used.
export { AutoModelForCausalLM, AutoTokenizer } from './api/auto.ts'
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
export type { CausalLM, LoadOptions } from './api/model.ts'
export type { SaveOptions } from './api/save.ts'
export { blobFiles } from './checkpoint/blob.ts'
export type { FileSet } from './checkpoint/types.ts'
export { type RawTensor, rawTensor } from './core/dtypes.ts'
export * from './core/errors.ts'
export { toFloat32 } from './core/half.ts'
export type { GeneratedSequence, GenerateOptions, StreamPiece } from './generate/types.ts'
export { methods, registerMethod } from './methods/index.ts'
export type { Method } from './methods/types.ts'
export type { ChatMessage, ChatOptions, Tokenizer } from './text/types.ts'
export type { QuantizedWeight } from './weights/weight.ts'
