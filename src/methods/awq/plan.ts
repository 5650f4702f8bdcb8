// Which linears are quantised, which tensors only change with them, and why the others stay; refused before any work where nothing can be done.
import { ConfigError, WeightError } from '../../core/errors.ts'
import { blockSpans, cutGraph } from '../../graph/cut.ts'
import { moduleOf, tiedHeadReason } from '../skip.ts'
import type { ModelInfo, QuantizationPlan, TensorInfo, TensorPlan } from '../types.ts'
import { type Awq, type AwqSettings, SKIP_KEY } from './config.ts'
import { scaleGroups } from './groups.ts'
import { layoutProblem } from './layouts.ts'

/** Path of the token table. */
const EMBEDDING = 'embed_tokens.weight'

/** Name of a module inside its decoder layer: `model.layers.3.mlp.up_proj` -> `mlp.up_proj`. */
export function nameInLayer(name: string): string {
  return moduleOf(name).replace(/^.*?\.\d+\./, '')
}

interface Linear {
  readonly info: TensorInfo
  readonly plan: TensorPlan<AwqSettings>
}

export function plan(tensors: readonly TensorInfo[], model: ModelInfo, config: Awq): QuantizationPlan<AwqSettings> {
  const inBlocks = blockPaths(model)
  const linears = new Map<string, Linear>()
  const ragged: string[] = []
  for (const info of tensors) {
    if (info.role !== 'linear' || !info.path || !inBlocks.has(info.path)) continue
    linears.set(info.path, { info, plan: planLinear(info, config, ragged) })
  }
  const changed = changedPaths(model, linears)
  const steps = tensors.map((info): TensorPlan<AwqSettings> => {
    const path = info.path ?? ''
    const linear = linears.get(path)
    if (linear?.plan.action === 'quantize') return linear.plan
    const reason = linear?.plan.action === 'keep' ? linear.plan.reason : undefined
    if (changed.has(path)) return { action: 'adjust', reason, dtype: changed.get(path) === 'bias' ? 'F16' : undefined }
    if (info.role === 'head') return { action: 'keep', reason: 'output head' }
    if (info.role === 'linear') return { action: 'keep', reason: reason ?? 'outside the decoder layers' }
    return { action: 'keep', reason: tiedHeadReason(info, model) }
  })
  const skipped = [...new Set(ragged)].filter((name) => !config.skip.some((entry) => name.includes(entry)))
  return {
    tensors: steps,
    warnings: warningsOf(tensors, config),
    storedConfig: withSkips(config, skipped),
    aliases: tiedNames(tensors, model),
  }
}

/** AutoAWQ's files name the tensor that is left out because another holds its values. */
function tiedNames(tensors: readonly TensorInfo[], { tied }: ModelInfo): Map<string, string> | undefined {
  const embedding = tensors.find((t) => t.path === EMBEDDING)
  return tied && embedding ? new Map([['lm_head.weight', embedding.name]]) : undefined
}

/** Paths of all parameters inside decoder blocks. Throws ConfigError where there is no graph to read. */
function blockPaths({ graph }: ModelInfo): Set<string> {
  if (!graph) throw new ConfigError('Cannot plan AWQ without the graph of the model')
  const spans = blockSpans(graph)
  return new Set(
    spans.flatMap(({ input, output }) => cutGraph(graph, [input], [output]).graph.parameters.map((p) => p.path)),
  )
}

function planLinear(info: TensorInfo, config: Awq, ragged: string[]): TensorPlan<AwqSettings> {
  const { name, shape, dtype } = info
  const inLayer = nameInLayer(name)
  const entry = config.skip.find((part) => inLayer.includes(part))
  if (entry !== undefined) return { action: 'keep', reason: `skipped by ${JSON.stringify(entry)} of ${SKIP_KEY}` }
  if (!['F32', 'F16', 'BF16'].includes(dtype))
    throw new WeightError(`Cannot quantise "${name}" with AWQ: it is ${dtype}, expected F32, F16, BF16`, {
      tensor: name,
      actual: dtype,
      hint: '--dtype float32',
    })
  const group = config.groupSize === -1 ? shape[1] : config.groupSize
  const problem = layoutProblem(shape, { group, version: config.version, bits: config.bits })
  const { bits, version, symmetric } = config
  if (!problem) return { action: 'quantize', settings: { bits, group, version, symmetric } }
  ragged.push(inLayer)
  return { action: 'keep', reason: problem }
}

/** Norms and float linears that take part in the scaling, and biases of quantised linears. */
function changedPaths({ graph }: ModelInfo, linears: ReadonlyMap<string, Linear>): Map<string, 'scaled' | 'bias'> {
  const changed = new Map<string, 'scaled' | 'bias'>()
  const isQuantized = (path: string) => linears.get(path)?.plan.action === 'quantize'
  for (const { input, output } of blockSpans(graph!)) {
    const block = cutGraph(graph!, [input], [output]).graph
    for (const { previous, linears: paths } of scaleGroups(block)) {
      if (!paths.some(isQuantized)) continue
      for (const path of [previous.weight, previous.bias, ...paths]) if (path !== undefined) changed.set(path, 'scaled')
    }
    for (const node of block.nodes) {
      if (node.op !== 'linear' || node.bias === undefined) continue
      if (isQuantized(block.parameters[node.weight].path)) changed.set(block.parameters[node.bias].path, 'bias')
    }
  }
  return changed
}

function withSkips(config: Awq, ragged: readonly string[]): Awq['stored'] {
  return ragged.length === 0 ? config.stored : { ...config.stored, [SKIP_KEY]: [...config.skip, ...ragged] }
}

function warningsOf(tensors: readonly TensorInfo[], config: Awq): string[] {
  const names = tensors.filter((t) => t.role === 'linear').map((t) => nameInLayer(t.name))
  const unmatched = config.skip.filter((entry) => !names.some((name) => name.includes(entry)))
  return [
    ...config.warnings,
    ...unmatched.map((entry) => `${SKIP_KEY}: ${JSON.stringify(entry)} occurs in no linear's name`),
  ]
}
