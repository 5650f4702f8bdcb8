// A checkpoint seen as a model: family, graph, and for each parameter where its weight comes from. Planned before any weight is read.
import type { Checkpoint, StoredTensor } from '../checkpoint/types.ts'
import { toGraph, transpose } from '../convert/ops.ts'
import { type DType, isFloat, type RawTensor, rawTensor, TORCH_DTYPES } from '../core/dtypes.ts'
import { ConfigError, FileError } from '../core/errors.ts'
import type { JsonObject } from '../core/json.ts'
import type { Graph } from '../graph/types.ts'
import type {
  Method,
  ModelInfo,
  QuantizationPlan,
  QuantizerKernels,
  StoredReader,
  TensorInfo,
} from '../methods/types.ts'
import type { Scheme } from '../weights/scheme.ts'
import { denseWeight, type QuantizedWeight } from '../weights/weight.ts'
import { familyOf, isModelType, MODEL_FAMILIES } from './auto.ts'
import { resolveTie, withPrefixes } from './canonical.ts'
import { configFromGguf, familyOfGguf } from './gguf/config.ts'
import type { ModelConfig } from './model-config.ts'
import { nameTable, type PlannedParameter, planParameters, surplusWarning } from './parameters.ts'
import { methodOfFolder, methodOfGguf, type StoredMethod } from './quantization-config.ts'
import { textPart } from './text-part.ts'
import { HEAD, type ModelFamily } from './types.ts'

export interface ModelSource {
  /** Its tensors under the names of the family's table: a missing prefix is added, a tied pair is one tensor. */
  readonly checkpoint: Checkpoint
  readonly family: ModelFamily
  readonly config: ModelConfig
  /** config.json, lossless; for a GGUF file the one that its metadata stands for. */
  readonly configJson: JsonObject
  readonly graph: Graph
  /** The method that the checkpoint is quantised with. */
  readonly method: Method | undefined
  /** That method's parsed config. */
  readonly methodConfig: unknown
  /** Where each parameter of the graph is stored, in its order. */
  readonly parameters: readonly PlannedParameter[]
  /** The scheme that parameter `index` has, before its codes are read; undefined where its method does not tell. */
  schemeOf(index: number): Promise<Scheme | undefined>
  /** Reads parameter `index` of the graph; codes are unpacked (or made) by `kernels` where they are given. */
  load(index: number, kernels?: QuantizerKernels): Promise<QuantizedWeight>
  /** Files beside config.json and the weights where the checkpoint's folder has none of them: a GGUF file seen as a folder. */
  readonly sideFiles?: ReadonlyMap<string, string>
  /** Grows while weights are loaded: repairs are reported when they are made. */
  readonly warnings: readonly string[]
}

/**
 * Plans a checkpoint as a model. Throws FileError where a parameter has no tensor or a wrong shape, ConfigError or UnsupportedError
 * where config.json or the metadata cannot be followed.
 */
export async function modelSource(checkpoint: Checkpoint): Promise<ModelSource> {
  return checkpoint.format === 'gguf' ? ggufSource(checkpoint) : folderSource(checkpoint)
}

async function folderSource(folder: Checkpoint): Promise<ModelSource> {
  if (!folder.config)
    throw new FileError(`Cannot open "${folder.files.name}": it has no config.json`, {
      file: 'config.json',
      hint: 'a model folder holds config.json beside its weights',
    })
  const text = textPart(folder, folder.config, isModelType)
  const original = text.checkpoint
  const configJson = original.config!
  const family = familyOf(configJson)
  if (original !== folder) configJson.architectures = [family.className]
  const config = family.parseConfig(configJson)
  const stored = await methodOfFolder(original)
  const warnings: string[] = [...text.warnings]
  const names = family.names(config)
  let checkpoint = withPrefixes(original, names)
  let tied = config.tied
  if (tied) {
    const reader = storedReader(checkpoint, stored?.config, warnings)
    const tie = await resolveTie(checkpoint, names, (name) => stored?.method.stored.isStored(name, reader) ?? false)
    checkpoint = tie.checkpoint
    tied = tie.tied
    if (tie.warning) warnings.push(tie.warning)
  }
  return planned({ checkpoint, family, config: { ...config, tied }, configJson, warnings, stored })
}

async function ggufSource(checkpoint: Checkpoint): Promise<ModelSource> {
  const family = familyOfGguf(checkpoint, MODEL_FAMILIES)
  const configJson = await configFromGguf(checkpoint, family)
  const parsed = family.parseConfig(configJson)
  const config = (await family.gguf.refine?.(parsed, checkpoint)) ?? parsed
  return planned({ checkpoint, family, config, configJson, warnings: [], stored: methodOfGguf(checkpoint) })
}

interface Opened {
  readonly checkpoint: Checkpoint
  readonly family: ModelFamily
  readonly config: ModelConfig
  readonly configJson: JsonObject
  readonly warnings: string[]
  readonly stored: StoredMethod | undefined
}

function planned({ checkpoint, family, config, configJson, warnings, stored }: Opened): ModelSource {
  const graph = family.build(config)
  const table = nameTable(family.names(config), checkpoint.format)
  const reader = storedReader(checkpoint, stored?.config, warnings)
  const parameters = planParameters(graph, table, checkpoint, stored?.method, reader)
  const surplus = surplusWarning(parameters, checkpoint, stored?.method)
  if (surplus) warnings.push(surplus)
  return {
    checkpoint,
    family,
    config,
    configJson,
    graph,
    method: stored?.method,
    methodConfig: stored?.config,
    parameters,
    warnings,
    schemeOf: async (index) => {
      const { name, parameter, quantized } = parameters[index]
      return quantized ? stored?.method.stored.schemeOf?.(name, parameter.shape, reader) : undefined
    },
    load: async (index, kernels) =>
      loadParameter(parameters[index], checkpoint, stored?.method, kernels ? { ...reader, kernels } : reader),
  }
}

function storedReader(checkpoint: Checkpoint, config: unknown, warnings: string[]): StoredReader<unknown> {
  return {
    config,
    has: (name) => checkpoint.tensors.has(name),
    dtypeOf: (name) => checkpoint.tensors.get(name)?.dtype,
    shapeOf: (name) => checkpoint.tensors.get(name)?.shape,
    read: (name) => readTensor(checkpoint, name),
    warn: (message) => warnings.push(message),
  }
}

/** Reads a tensor by name. Throws FileError where it is missing. */
export async function readTensor(checkpoint: Checkpoint, name: string): Promise<RawTensor> {
  const tensor = checkpoint.tensors.get(name)
  if (!tensor)
    throw new FileError(`Cannot read "${checkpoint.files.name}": tensor "${name}" is missing`, {
      tensor: name,
      hint: `fewbit inspect ${checkpoint.files.name}`,
    })
  // A GGUF block type is no DType, but the method that reads it knows its name.
  return rawTensor(tensor.dtype as DType, tensor.shape, await checkpoint.read(tensor))
}

async function loadParameter(
  { parameter, name, op, quantized }: PlannedParameter,
  checkpoint: Checkpoint,
  method: Method | undefined,
  reader: StoredReader<unknown>,
): Promise<QuantizedWeight> {
  const weight = quantized
    ? await method!.stored.read(name, parameter.shape, reader)
    : denseWeight(await readTensor(checkpoint, name))
  return toGraph(op, weight)
}

/** Reads a float weight as a method quantises it: [N, K] also where the file holds it transposed. */
export async function readFloatWeight(source: ModelSource, name: string): Promise<RawTensor> {
  const tensor = await readTensor(source.checkpoint, name)
  return isTransposed(source, name) ? transpose(tensor) : tensor
}

/** Whether the file holds the float weight `name` as [K, N]. */
export function isTransposed({ parameters }: ModelSource, name: string): boolean {
  return parameters.find((p) => p.name === name)?.op?.kind === 'transpose'
}

/** How a method sees the tensors of a checkpoint, in file order. */
export function tensorInfos(source: ModelSource): { infos: TensorInfo[]; stored: StoredTensor[] } {
  const byName = new Map(source.parameters.map((p) => [p.name, p]))
  const infos: TensorInfo[] = []
  const stored: StoredTensor[] = []
  for (const tensor of source.checkpoint.tensors.values()) {
    const found = byName.get(tensor.name)
    // A method sees [N, K], whichever way the file holds it.
    const shape = found?.op?.kind === 'transpose' && !found.quantized ? found.parameter.shape : tensor.shape
    infos.push({ name: tensor.name, shape, dtype: tensor.dtype, role: roleOf(found), path: found?.parameter.path })
    stored.push(tensor)
  }
  return { infos, stored }
}

function roleOf(found: PlannedParameter | undefined): TensorInfo['role'] {
  const kind = found?.parameter.kind
  if (kind !== 'linear' && kind !== 'embedding') return 'other'
  return found?.parameter.path === `${HEAD}.weight` ? 'head' : kind
}

/** Names of the parameters in the reference's order; the head comes last where it is untied. */
function inReferenceOrder({ config, family, graph }: ModelSource): string[] {
  const used = new Set(graph.parameters.map((p) => p.path))
  const names = family.names(config).filter((n) => used.has(n.path))
  const isHead = (path: string) => path.startsWith(`${HEAD}.`)
  return [...names.filter((n) => !isHead(n.path)), ...names.filter((n) => isHead(n.path))].map((n) => n.huggingFace)
}

/** What planning may ask about the model. */
export function modelInfo(source: ModelSource): ModelInfo {
  const { config } = source
  const parameters = inReferenceOrder(source)
  return {
    modelType: config.modelType,
    tied: config.tied,
    // A vector's with its own name.
    lastModule: parameters.at(-1)!.replace(/\.weight$/, ''),
    layers: config.layers,
    heads: config.heads,
    kvHeads: config.kvHeads,
    dtype: modelDtype(source.configJson, source.checkpoint),
    container: source.checkpoint.format,
    ggufArchitecture: source.family.gguf?.architecture,
    parameters,
    graph: source.graph,
  }
}

/** The model's dtype: config.json's (`dtype`, older `torch_dtype`), else that of the first float tensor. */
export function modelDtype(configJson: JsonObject, checkpoint: Checkpoint): DType {
  const key = ['dtype', 'torch_dtype'].find((k) => typeof configJson[k] === 'string' && configJson[k] !== 'auto')
  if (key) {
    const name = configJson[key] as string
    const dtype = TORCH_DTYPES[name.replace(/^torch\./, '')]
    if (dtype !== undefined && isFloat(dtype)) return dtype
    throw new ConfigError(`Cannot read config.json: "${key}" is ${JSON.stringify(name)}, expected a float dtype`, {
      key,
      actual: name,
    })
  }
  for (const tensor of checkpoint.tensors.values()) if (isFloat(tensor.dtype)) return tensor.dtype
  return 'F32'
}

/** Quantises the tensors of a float model one at a time as they are asked for. */
export function quantizedOnTheFly(
  source: ModelSource,
  method: Method,
  plan: QuantizationPlan<unknown>,
  kernels?: QuantizerKernels,
): ModelSource {
  const { infos } = tensorInfos(source)
  const plans = new Map(infos.map((info, i) => [info.name, plan.tensors[i]]))
  return {
    ...source,
    method,
    load: async (index, given) => {
      const { name, op } = source.parameters[index]
      const entry = plans.get(name)
      if (entry?.action !== 'quantize') return source.load(index, given)
      const tensor = await readFloatWeight(source, name)
      const weight = await method.quantize({ name, tensor, settings: entry.settings, kernels: given ?? kernels })
      return toGraph(op, weight)
    },
  }
}
