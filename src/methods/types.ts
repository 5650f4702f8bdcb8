// What a method owes, as one record. A method knows weights and core only: no device, no file container, no model family.
import type { GgufMetadata } from '../checkpoint/gguf/metadata.ts'
import type { ByteSource } from '../checkpoint/types.ts'
import type { DType, FloatDType, RawTensor } from '../core/dtypes.ts'
import type { JsonObject } from '../core/json.ts'
import type { QuantizerKernels } from '../core/kernels.ts'
import type { Graph } from '../graph/types.ts'
import type { Scheme } from '../weights/scheme.ts'
import type { QuantizedWeight } from '../weights/weight.ts'
import type { BlockMethod } from './calibration.ts'
import type { OptionInfo } from './fields.ts'

export type { QuantizerKernels } from '../core/kernels.ts'

/** A tensor of the checkpoint as a method sees it before anything is read. */
export interface TensorInfo {
  /** Stored name, e.g. `model.layers.0.self_attn.q_proj.weight`, or a GGUF name for methods whose container is GGUF. */
  readonly name: string
  readonly shape: readonly number[]
  readonly dtype: string
  /** `linear`: a plain nn.Linear's weight; `embedding`: the token table; `other`: norms, biases, buffers. */
  readonly role: 'linear' | 'head' | 'embedding' | 'other'
  /** Path of the parameter in the graph; undefined for tensors that the model does not know. */
  readonly path?: string
}

/** What the planning of a method may ask about the model. */
export interface ModelInfo {
  readonly modelType: string
  readonly tied: boolean
  /** Module that owns the last named parameter, e.g. `lm_head` or `model.norm`. */
  readonly lastModule: string
  readonly layers: number
  readonly heads: number
  readonly kvHeads: number
  /** The checkpoint's float dtype. */
  readonly dtype: DType
  /** What the tensors come from. `gguf`: a .gguf file as it stands; absent or `safetensors`: a model folder (under GGUF names for GGUF). */
  readonly container?: 'safetensors' | 'gguf'
  /** `general.architecture` of the GGUF file that is read or made. */
  readonly ggufArchitecture?: string
  /** Experts of each mixture layer; absent or 0 for dense models. */
  readonly experts?: number
  /** Stored names of the parameters in the order of the model's own modules, which is not that of the file. */
  readonly parameters?: readonly string[]
  /** The model's graph: what feeds what. */
  readonly graph?: Graph
}

/** What becomes of one tensor. `settings` is the method's own, opaque to everybody else. */
export type TensorPlan<S> =
  | { readonly action: 'quantize'; readonly settings: S; readonly note?: string }
  | { readonly action: 'keep'; readonly reason?: string }
  /** Stays float, but its values change with those that are quantised (scope `block`): a norm, a bias. `dtype`: what it becomes. */
  | { readonly action: 'adjust'; readonly dtype?: FloatDType; readonly reason?: string }

export interface QuantizationPlan<S> {
  /** One entry a tensor, in order. A linear that is kept must have a reason. */
  readonly tensors: readonly TensorPlan<S>[]
  readonly warnings: readonly string[]
  /** The config to write: the given one, with what the method had to add. */
  readonly storedConfig: JsonObject | null
  /** Text of files that it keeps beside the weights, by name. */
  readonly files?: ReadonlyMap<string, string>
  /** Names of tensors that another one stands for (a tied head): what the safetensors header says, and a state dictionary holds twice. */
  readonly aliases?: ReadonlyMap<string, string>
}

/** What `quantize` is given: the tensor in its stored dtype. */
export interface QuantizeInput<S> {
  readonly name: string
  readonly tensor: RawTensor
  readonly settings: S
  readonly kernels?: QuantizerKernels
  /** Receives what the user should know about this tensor. */
  warn?(message: string): void
  /** Row of the whole tensor that `tensor` begins with, where it is a slice (see sliceRows); for messages. */
  readonly firstRow?: number
}

/** A stored tensor without its bytes. `dtype` is the container's spelling. */
export interface TensorSpec {
  readonly name: string
  readonly dtype: string
  readonly shape: readonly number[]
}

/** What a method whose container is GGUF says of the whole file. */
export interface GgufFileRules<C> {
  /** True where the file made from a model folder is the converter's own, in its order, not llama-quantize's. */
  isConverters(config: C): boolean
  /** `tokenizer.ggml.pre` of a file made from a model folder, where the config gives it. */
  pre?(config: C): string | undefined
  /** `general.file_type`. */
  fileType(config: C): number
  /** Key-values of the file that is made of one with `source`'s. */
  metadata(source: GgufMetadata, config: C): GgufMetadata
  /** Order of the tensors in the file. */
  order(a: { readonly name: string }, b: { readonly name: string }): number
}

/** A tensor to be stored, under its full name. */
export interface NamedTensor {
  readonly name: string
  readonly tensor: RawTensor
}

/** What a stored layout may look up while reading: tensors by full name, and what the model expects. */
export interface StoredReader<C> {
  readonly config: C
  has(name: string): boolean
  dtypeOf(name: string): string | undefined
  shapeOf(name: string): readonly number[] | undefined
  read(name: string): Promise<RawTensor>
  warn(message: string): void
  /** Unpack codes; absent: the TypeScript oracle does. */
  readonly kernels?: QuantizerKernels
}

export interface StoredLayout<C, S> {
  /** Names that may hang on module `P` besides `P.weight` and `P.bias`, as suffixes (`.weight.absmax`, `.SCB`). */
  readonly suffixes: readonly string[]
  /** The tensors that the file holds for weight `name`; packed by `kernels` where they are given. */
  write(
    name: string,
    weight: QuantizedWeight,
    settings: S,
    kernels?: QuantizerKernels,
  ): NamedTensor[] | Promise<NamedTensor[]>
  /** What `write` will give, where it is known before any byte is read; then results are written straight to their final place. */
  outputs?(info: TensorInfo, settings: S): readonly TensorSpec[] | undefined
  /** True where `name` (`P.weight`) is stored quantised. */
  isStored(name: string, reader: StoredReader<C>): boolean
  /** Names of the weights (`P.weight`) that the config promises: one that the model has not is an error. */
  promised?(config: C): readonly string[]
  /** Reads the weight `name` of logical shape [N, K]. */
  read(name: string, shape: readonly number[], reader: StoredReader<C>): Promise<QuantizedWeight>
  /** The scheme that `read` will give, from shapes and descriptions only; absent where nobody needs to know it beforehand. */
  schemeOf?(name: string, shape: readonly number[], reader: StoredReader<C>): Promise<Scheme>
  /** The settings with which `write` gives the tensors that `read` was given, where the file and not the config holds them. */
  readSettings?(name: string, reader: StoredReader<C>): Promise<S>
}

/** What a method can do, as data: tables, help and docs are printed from it and the conformance suite runs each claim. */
export interface Capabilities {
  readonly bits: readonly number[]
  readonly calibration: 'none' | 'optional' | 'required'
  readonly devices: readonly ('cpu' | 'wasm' | 'reference')[]
  readonly onTheFly: boolean
  readonly serialisable: boolean
}

/** Shorthand flags shared by all methods; any other flag is the config's own key. */
export interface MethodFlags {
  readonly bits?: number
  readonly groupSize?: number | null
  readonly type?: string
  readonly [key: string]: unknown
}

/** One way to run a method: what the conformance suite quantises, saves, loads and runs on every device. */
export interface Variant {
  /** For people, unique within the method: `3 bit, groups across rows`. */
  readonly name: string
  /** The entry of `capabilities.bits` that it stands for. */
  readonly bits: number
  /** As from the command line, or from `new QuantizationConfig(name, options)`. A file that they name is made by the suite, for its model. */
  readonly options: MethodFlags
  /** Dtype of the float model that it starts from. Default F32. */
  readonly dtype?: FloatDType
}

/** C: the parsed config. S: the settings of one tensor. */
export interface Method<C = unknown, S = unknown> {
  /** `quant_method` in config.json, and the name on the command line. */
  readonly name: string
  /** One line for people. */
  readonly summary: string
  /** Name of the config class of the public API, e.g. `HqqConfig`. */
  readonly configClass: string
  readonly container: 'safetensors' | 'gguf'
  readonly scope: 'tensor' | 'tensor+statistics' | 'block'
  readonly capabilities: Capabilities
  /**
   * Settings that together cover every width and every form of the stored tensors; a width without one may not be claimed.
   * Default: `--bits` alone for each of `capabilities.bits`.
   */
  readonly variants?: readonly Variant[]
  /** Keys of its config that a user may set, as they stand in config.json, with what to say of them. */
  readonly options?: Readonly<Record<string, OptionInfo>>
  /** Parses a `quantization_config`; throws ConfigError naming the key. */
  parseConfig(stored: JsonObject): C
  /** The `quantization_config` that shorthand flags or API options stand for. */
  fromFlags(flags: MethodFlags): JsonObject
  /** Reads the files that a config names by path (an importance matrix); absent where no config does. Called before `plan`. */
  loadFiles?(config: C, open: (path: string) => Promise<ByteSource>): Promise<C>
  /**
   * A file that marks a folder as this method's, and the quantization_config that its content stands for beside the one of config.json,
   * if that has one; undefined where the file is somebody else's. Throws ConfigError.
   */
  readonly marker?: {
    readonly file: string
    parse(content: JsonObject, given: JsonObject | undefined): JsonObject | undefined
  }
  /** The quantization_config that stored tensors alone stand for, where neither config.json nor a marker says anything; undefined: not this method's. */
  configOfTensors?(tensors: ReadonlyMap<string, TensorSpec>): JsonObject | undefined
  /** True where a tied head, module `head`, is to become a weight of its own, so that it can be quantised. */
  untiesHead?(config: C, head: string): boolean
  /** Float dtype of every model that it makes, whatever the source's is; absent: the source's, or what `--dtype` says. */
  readonly floatDtype?: FloatDType
  /** What decides the result besides the config's own keys (the contents of the files it names): a journal with another is not resumed. */
  fingerprint?(config: C): unknown
  plan(tensors: readonly TensorInfo[], model: ModelInfo, config: C): QuantizationPlan<S>
  /** Quantises one tensor on its own; for scope `block`, without data: what merging and conversion do. */
  quantize(input: QuantizeInput<S>): Promise<QuantizedWeight>
  /** The stored tensors of one weight, where they can be had at less cost: the same bytes as `quantize` and `stored.write` give. */
  encode?(input: QuantizeInput<S>): Promise<readonly NamedTensor[]>
  /** For scope `block`: how a decoder block is quantised with calibration data. */
  readonly block?: BlockMethod<C, S>
  /**
   * Rows that can be quantised on their own, or a multiple of them: the bytes of the stored tensors are then those of the slices joined.
   * Undefined where only the whole tensor will do.
   */
  sliceRows?(info: TensorInfo, settings: S): number | undefined
  /** For methods whose container is GGUF. */
  readonly file?: GgufFileRules<C>
  /** True where its own ecosystem keeps the tensors in one file of torch.save, with nothing beside them: what `-o OUT.pt` writes. */
  torchFile?(config: C): boolean
  readonly stored: StoredLayout<C, S>
  /** Dtype in which the reference restores floats from a stored weight (`dequantize()`); logits use float32. */
  restoreDtype?(weight: QuantizedWeight, config: C): DType
}
