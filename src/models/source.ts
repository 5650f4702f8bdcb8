// A checkpoint seen as a model: family, graph, and for each parameter where its weight comes from. Planned before any tensor is read.

import type { Checkpoint, StoredTensor } from '../checkpoint/types.ts'
import { type DType, elementCount, type RawTensor, rawTensor } from '../core/dtypes.ts'
import { FileError } from '../core/errors.ts'
import { isJsonObject, type JsonObject } from '../core/json.ts'
import type { Graph, Parameter } from '../graph/types.ts'
import { methodNamed } from '../methods/index.ts'
import type {
  Method,
  ModelInfo,
  QuantizationPlan,
  QuantizerKernels,
  StoredReader,
  TensorInfo,
} from '../methods/types.ts'
import { denseWeight, type QuantizedWeight } from '../weights/weight.ts'
import { familyOf } from './auto.ts'
import type { DecoderConfig, ModelFamily, ParameterName } from './types.ts'

export interface ModelSource {
  readonly checkpoint: Checkpoint
  readonly family: ModelFamily
  readonly config: DecoderConfig
  /** config.json, lossless. */
  readonly configJson: JsonObject
  readonly graph: Graph
  /** The method that the checkpoint is quantised with. */
  readonly method: Method | undefined
  /** Reads parameter `index` of the graph. */
  load(index: number): Promise<QuantizedWeight>
  readonly warnings: readonly string[]
}

/** Plans a checkpoint as a model. Throws FileError where a parameter has no tensor or a wrong shape. */
export async function modelSource(checkpoint: Checkpoint): Promise<ModelSource> {
  const configJson = checkpoint.config
  if (!configJson)
    throw new FileError(`Cannot open "${checkpoint.files.name}": it has no config.json`, { file: 'config.json' })
  const family = familyOf(configJson)
  const config = family.parseConfig(configJson)
  const graph = family.build(config)
  const names = new Map(family.names(config).map((n) => [n.path, n]))
  const stored = configJson.quantization_config
  const method = isJsonObject(stored) ? methodNamed(String(stored.quant_method)) : undefined
  const warnings: string[] = []
  const reader = storedReader(
    checkpoint,
    method && isJsonObject(stored) ? method.parseConfig(stored) : undefined,
    warnings,
  )
  return {
    checkpoint,
    family,
    config,
    configJson,
    graph,
    method,
    warnings,
    load: async (index) => loadParameter(graph.parameters[index], names, reader, method),
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
  return rawTensor(tensor.dtype as DType, tensor.shape, await checkpoint.read(tensor))
}

async function loadParameter(
  parameter: Parameter,
  names: ReadonlyMap<string, ParameterName>,
  reader: StoredReader<unknown>,
  method: Method | undefined,
): Promise<QuantizedWeight> {
  const name = names.get(parameter.path)!.huggingFace
  if (method && parameter.shape.length === 2 && method.stored.isStored(name, reader))
    return method.stored.read(name, parameter.shape, reader)
  const tensor = await reader.read(name)
  if (String(tensor.shape) !== String(parameter.shape)) {
    throw new FileError(
      `Cannot read "${name}": its shape is [${tensor.shape}], the model expects [${parameter.shape}]`,
      { tensor: name, expected: parameter.shape, actual: tensor.shape },
    )
  }
  return denseWeight(tensor)
}

/** How a method sees the tensors of a float checkpoint. */
export function tensorInfos(source: ModelSource): { infos: TensorInfo[]; stored: StoredTensor[] } {
  const byName = new Map(source.family.names(source.config).map((n) => [n.huggingFace, n.path]))
  const kinds = new Map(source.graph.parameters.map((p) => [p.path, p.kind]))
  const infos: TensorInfo[] = []
  const stored: StoredTensor[] = []
  for (const tensor of source.checkpoint.tensors.values()) {
    const path = byName.get(tensor.name)
    const kind = path ? kinds.get(path) : undefined
    const role = path === 'lm_head.weight' ? 'head' : kind === 'linear' || kind === 'embedding' ? kind : 'other'
    infos.push({ name: tensor.name, shape: tensor.shape, dtype: tensor.dtype, role })
    stored.push(tensor)
  }
  return { infos, stored }
}

/** What planning may ask about the model. */
export function modelInfo(source: ModelSource): ModelInfo {
  const { config } = source
  const first = [...source.checkpoint.tensors.values()].find((t) => t.dtype.startsWith('F') || t.dtype === 'BF16')
  return {
    modelType: config.modelType,
    tied: config.tied,
    lastModule: config.tied ? 'model.norm' : 'lm_head',
    layers: config.layers,
    heads: config.heads,
    kvHeads: config.kvHeads,
    dtype: (first?.dtype ?? 'F32') as DType,
  }
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
  const names = new Map(source.family.names(source.config).map((n) => [n.path, n.huggingFace]))
  return {
    ...source,
    method,
    load: async (index) => {
      const name = names.get(source.graph.parameters[index].path)!
      const entry = plans.get(name)
      if (entry?.action !== 'quantize') return source.load(index)
      return method.quantize({
        name,
        tensor: await readTensor(source.checkpoint, name),
        settings: entry.settings,
        kernels,
      })
    },
  }
}

/** Stored bytes of all tensors, for sizes in reports. */
export function checkpointBytes(checkpoint: Checkpoint): { bytes: number; weights: number } {
  let bytes = 0
  let weights = 0
  for (const t of checkpoint.tensors.values()) {
    bytes += t.byteLength
    weights += elementCount(t.shape)
  }
  return { bytes, weights }
}
