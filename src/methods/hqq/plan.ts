// Which linears are quantised and why the others are not; everything that can be refused is refused before any work.
import type { DType } from '../../core/dtypes.ts'
import { WeightError } from '../../core/errors.ts'
import { headModule, moduleOf, tiedHeadReason } from '../skip.ts'
import type { ModelInfo, QuantizationPlan, TensorInfo, TensorPlan } from '../types.ts'
import { type Hqq, type HqqSettings, SKIP_KEY } from './config.ts'
import { layoutProblem } from './layout.ts'

const QUANTISABLE = ['F32', 'F16', 'BF16']

/** `model.layers.3.mlp.up_proj` -> `mlp.up_proj`: what a dynamic config calls the module. */
export function tagOf(module: string): string {
  return module
    .split('.')
    .filter((part) => part !== 'model' && part !== 'layers' && !/^\d+$/.test(part))
    .join('.')
}

/** Throws WeightError where `tensor` cannot be quantised with `settings`. */
function assertQuantisable(tensor: TensorInfo, settings: HqqSettings): void {
  const { name, shape, dtype } = tensor
  const where = { tensor: name, shape, groupSize: settings.groupSize }
  if (!QUANTISABLE.includes(dtype))
    throw new WeightError(`Cannot quantise "${name}" with HQQ: it is ${dtype}, expected ${QUANTISABLE.join(', ')}`, {
      ...where,
      actual: dtype,
      expected: QUANTISABLE,
      hint: dtype === 'F64' ? '--dtype float32' : `add it to ${SKIP_KEY}`,
    })
  const problem = layoutProblem(shape, settings, dtype as DType)
  if (problem)
    throw new WeightError(`Cannot quantise "${name}" [${shape}] with HQQ: ${problem}`, {
      ...where,
      hint: `choose another --group-size, or add ${moduleOf(name)} to ${SKIP_KEY}`,
    })
}

export function plan(tensors: readonly TensorInfo[], model: ModelInfo, config: Hqq): QuantizationPlan<HqqSettings> {
  return {
    tensors: tensors.map((tensor) => planTensor(tensor, model, config)),
    warnings: [...config.warnings, ...warningsOf(tensors, model, config)],
    storedConfig: config.stored,
  }
}

function planTensor(tensor: TensorInfo, model: ModelInfo, config: Hqq): TensorPlan<HqqSettings> {
  if (tensor.role !== 'linear' && tensor.role !== 'head')
    return { action: 'keep', reason: tiedHeadReason(tensor, model) }
  const module = moduleOf(tensor.name)
  const entry = skipEntry(module, config)
  if (entry !== undefined) return { action: 'keep', reason: `skipped by ${JSON.stringify(entry)} of ${SKIP_KEY}` }
  if (tensor.role === 'head' && model.tied) return { action: 'keep', reason: 'tied to the embedding' }
  const settings = settingsOf(module, config)
  if (!settings) return { action: 'keep', reason: `quant_config has no entry for "${tagOf(module)}"` }
  assertQuantisable(tensor, settings)
  return { action: 'quantize', settings }
}

function settingsOf(module: string, { settings }: Hqq): HqqSettings | undefined {
  return settings instanceof Map ? settings.get(tagOf(module)) : (settings as HqqSettings)
}

/** The entry of skip_modules that occurs in the module's name; a trailing ".weight" does not count. */
function skipEntry(module: string, config: Hqq): string | undefined {
  return config.skipModules.find((entry) => module.includes(entry.replace(/(?<=.)\.weight$/, '')))
}

function warningsOf(tensors: readonly TensorInfo[], model: ModelInfo, config: Hqq): string[] {
  const head = headModule(tensors)
  const modules = [...new Set([...tensors.map(({ name }) => moduleOf(name)), head])]
  const warnings = config.skipModules
    .filter((entry) => !modules.some((module) => skipEntry(module, { ...config, skipModules: [entry] }) !== undefined))
    .map((entry) => `${SKIP_KEY}: ${JSON.stringify(entry)} occurs in no module's name`)
  if (config.settings instanceof Map) {
    const tags = new Set(modules.map(tagOf))
    for (const tag of config.settings.keys())
      if (!tags.has(tag)) warnings.push(`quant_config: no module has the tag ${JSON.stringify(tag)}`)
  }
  if (skipEntry(head, config) === undefined && settingsOf(head, config))
    warnings.push(
      model.tied
        ? `${head} is tied to the embedding: both stay float although ${SKIP_KEY} does not name it`
        : `${head} is quantised: ${SKIP_KEY} does not name it`,
    )
  return warnings
}
