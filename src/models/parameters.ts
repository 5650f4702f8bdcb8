// Where each parameter of the graph comes from, settled before any tensor is read: what is missing, misshapen or left over is said here.
import type { Checkpoint, StoredTensor } from '../checkpoint/types.ts'
import { storedShape, type WeightOp } from '../convert/ops.ts'
import { isFloat } from '../core/dtypes.ts'
import { BugError, FileError } from '../core/errors.ts'
import type { Graph, Parameter } from '../graph/types.ts'
import type { Method, StoredReader } from '../methods/types.ts'
import type { ParameterName } from './types.ts'

/** One parameter of the graph and where it is stored, in the graph's order. */
export interface PlannedParameter {
  readonly parameter: Parameter
  readonly names: ParameterName
  /** Its name in this container. */
  readonly name: string
  /** True where the method's layout stores it, in whichever tensors that has. */
  readonly quantized: boolean
  /** What this container does to the weight. */
  readonly op: WeightOp | undefined
}

/** Names by path, and which of them and of their operations this container uses. */
export interface NameTable {
  readonly byPath: ReadonlyMap<string, ParameterName>
  of(names: ParameterName): { readonly name: string; readonly op?: WeightOp }
}

export function nameTable(names: readonly ParameterName[], format: Checkpoint['format']): NameTable {
  return {
    byPath: new Map(names.map((n) => [n.path, n])),
    of:
      format === 'gguf'
        ? (n) => ({ name: ggufNameOf(n), op: n.ggufOp })
        : (n) => ({ name: n.huggingFace, op: n.huggingFaceOp }),
  }
}

/** Name in a GGUF file. */
export function ggufNameOf({ path, gguf }: ParameterName): string {
  if (gguf !== undefined) return gguf
  throw new BugError(`The family has a GGUF profile, but parameter "${path}" has no GGUF name`)
}

/** Finds every parameter. Throws FileError naming the first tensor that is missing or has a wrong shape or dtype. */
export function planParameters(
  graph: Graph,
  table: NameTable,
  checkpoint: Checkpoint,
  method: Method | undefined,
  reader: StoredReader<unknown>,
): PlannedParameter[] {
  const missing: string[] = []
  const planned = graph.parameters.map((parameter): PlannedParameter => {
    const names = table.byPath.get(parameter.path)!
    const { name, op } = table.of(names)
    const quantized = parameter.shape.length === 2 && method !== undefined && method.stored.isStored(name, reader)
    const tensor = checkpoint.tensors.get(name)
    if (!quantized && tensor) checkTensor(tensor, storedShape(op, parameter.shape), checkpoint)
    if (!quantized && !tensor) missing.push(name)
    return { parameter, names, name, quantized, op }
  })
  checkPromised(planned, checkpoint, method, reader)
  if (missing.length > 0) throw missingError(missing, planned, checkpoint)
  return planned
}

/** Throws FileError where the method's config names a module that the model has not. */
function checkPromised(
  planned: readonly PlannedParameter[],
  checkpoint: Checkpoint,
  method: Method | undefined,
  reader: StoredReader<unknown>,
): void {
  const names = new Set(planned.map(({ name }) => name))
  const unknown = method?.stored.promised?.(reader.config).find((name) => !names.has(name))
  if (unknown === undefined) return
  const file = checkpoint.files.name
  throw new FileError(`Cannot load "${file}": ${method!.name} quantised "${unknown}", which the model does not have`, {
    file,
    tensor: unknown,
    hint: `config.json or ${method!.marker?.file ?? 'its quantization_config'} belongs to another model`,
  })
}

function checkTensor(tensor: StoredTensor, expected: readonly number[], checkpoint: Checkpoint): void {
  const file = checkpoint.files.name
  const fields = { file, tensor: tensor.name }
  const hint = `fewbit inspect ${file}`
  if (String(tensor.shape) !== String(expected))
    throw new FileError(
      `Cannot load "${tensor.name}" of "${file}": its shape is [${tensor.shape.join(', ')}], config.json makes it [${expected.join(', ')}]`,
      { ...fields, expected, actual: tensor.shape, hint },
    )
  if (!isFloat(tensor.dtype))
    throw new FileError(
      `Cannot load "${tensor.name}" of "${file}": it is ${tensor.dtype}, expected floats, and no quantization_config explains it`,
      { ...fields, expected: 'F32, F16, BF16 or F64', actual: tensor.dtype, hint },
    )
}

function missingError(missing: readonly string[], planned: readonly PlannedParameter[], checkpoint: Checkpoint) {
  const file = checkpoint.files.name
  const [first] = missing
  const { parameter, op } = planned.find((p) => p.name === first)!
  const shape = storedShape(op, parameter.shape)
  const others = missing.length > 1 ? `, and ${missing.length - 1} more` : ''
  return new FileError(`Cannot load "${file}": tensor "${first}" [${shape.join(', ')}] is missing${others}`, {
    file,
    tensor: first,
    missing,
    expected: shape,
    hint: `fewbit inspect ${file} lists what is there; config.json may belong to another model`,
  })
}

/** Buffers that older files carry and that follow from config.json. */
const KNOWN_BUFFERS =
  /(?:^|\.)(?:rotary_emb\.inv_freq|rope_(?:freqs|factors_long|factors_short)\.weight|(?:attn|attention)\.(?:masked_)?bias)$/
/** Names in a warning before it only counts. */
const MAX_NAMES = 20

/** A warning naming the tensors that belong to no parameter, or nothing. They are kept when the model is saved. */
export function surplusWarning(
  planned: readonly PlannedParameter[],
  checkpoint: Checkpoint,
  method: Method | undefined,
): string | undefined {
  const claimed = new Set<string>()
  for (const { name, quantized } of planned) {
    claimed.add(name)
    if (!quantized) continue
    const module = name.replace(/\.weight$/, '')
    for (const suffix of method!.stored.suffixes) claimed.add(module + suffix)
  }
  const surplus = [...checkpoint.tensors.keys()].filter((name) => !claimed.has(name) && !KNOWN_BUFFERS.test(name))
  if (surplus.length === 0) return undefined
  const more = surplus.length > MAX_NAMES ? ` and ${surplus.length - MAX_NAMES} more` : ''
  return `${surplus.length} tensors belong to no parameter of the model: ${surplus.slice(0, MAX_NAMES).join(', ')}${more}`
}
