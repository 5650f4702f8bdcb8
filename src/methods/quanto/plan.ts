// Which linears are quantised and why the others are not, by transformers' skip list or by optimum-quanto's shell patterns; and the map of
// the modules that are.
import type { DType } from '../../core/dtypes.ts'
import { WeightError } from '../../core/errors.ts'
import { blockParameters } from '../../graph/cut.ts'
import { decideSkips, headModule, moduleOf, skipList } from '../skip.ts'
import type { ModelInfo, QuantizationPlan, TensorInfo, TensorPlan } from '../types.ts'
import { QMAP_FILE, type Quanto, type QuantoSettings, SKIP_KEY } from './config.ts'
import { isQuantisable } from './quantize.ts'

/** A shell pattern (`*`, `?`, `[a-z]`, `[!a-z]`) as Python's fnmatch reads it: over the whole name. */
export function shellPattern(pattern: string): RegExp {
  const source = pattern.replace(
    /\[(!?)([^\]]+)\]|[\s\S]/g,
    (text, not: string | undefined, set: string | undefined) => {
      if (set !== undefined) return `[${not ? '^' : ''}${set.replace(/[\\^]/g, '\\$&')}]`
      return text === '*' ? '[\\s\\S]*' : text === '?' ? '[\\s\\S]' : text.replace(/[.*+?^${}()|[\]\\]/, '\\$&')
    },
  )
  return new RegExp(`^${source}$`)
}

interface Decisions {
  readonly reasons: readonly (string | undefined)[]
  readonly warnings: readonly string[]
}

/** Why module `module` is left out by include and exclude, or undefined. */
function patternReason(module: string, { include, exclude }: Quanto): string | undefined {
  if (include && !include.some((pattern) => shellPattern(pattern).test(module)))
    return 'matched by no pattern of include'
  const excluded = exclude?.find((pattern) => shellPattern(pattern).test(module))
  return excluded === undefined ? undefined : `excluded by ${JSON.stringify(excluded)}`
}

function decidePatterns(tensors: readonly TensorInfo[], model: ModelInfo, config: Quanto): Decisions {
  const head = headModule(tensors)
  const modules = [...new Set([...tensors.map(({ name }) => moduleOf(name)), head])]
  const warnings = [...(config.include ?? []), ...(config.exclude ?? [])]
    .filter((pattern) => !modules.some((module) => shellPattern(pattern).test(module)))
    .map(
      (pattern) => `${JSON.stringify(pattern)} matches no module (a pattern must match the whole name: "*.down_proj")`,
    )
  if (!model.tied && patternReason(head, config) === undefined)
    warnings.push(`${head} is quantised: no pattern excludes it`)
  return {
    reasons: tensors.map(({ name, role }) => {
      if (role === 'embedding' && model.tied) return 'output head, tied to the embedding'
      return role === 'linear' || role === 'head' ? patternReason(moduleOf(name), config) : undefined
    }),
    warnings,
  }
}

const hasPatterns = ({ include, exclude }: Quanto) => include !== null || exclude !== null

/** True where head module `head` is quantised although nobody asked for its name: a tied one becomes a weight of its own. */
export function untiesHead(config: Quanto, head: string): boolean {
  if (hasPatterns(config)) return patternReason(head, config) === undefined
  return config.skipModules !== null && skipList(config.skipModules, SKIP_KEY).match(head) === undefined
}

export function plan(
  tensors: readonly TensorInfo[],
  model: ModelInfo,
  config: Quanto,
): QuantizationPlan<QuantoSettings> {
  const { reasons, warnings } = hasPatterns(config)
    ? decidePatterns(tensors, model, config)
    : decideSkips(tensors, model, config.skipModules, SKIP_KEY)
  const { settings } = config
  const { activations } = settings
  const calibrated = model.graph && new Set(blockParameters(model.graph))
  const isCalibrated = ({ role, path }: TensorInfo) =>
    activations !== null && role === 'linear' && (path === undefined || !calibrated || calibrated.has(path))
  const entries = tensors.map((tensor, i): TensorPlan<QuantoSettings> => {
    const isLinear = tensor.role === 'linear' || tensor.role === 'head'
    if (!isLinear || reasons[i] !== undefined) return { action: 'keep', reason: reasons[i] }
    assertQuantisable(tensor)
    return { action: 'quantize', settings: isCalibrated(tensor) ? settings : { ...settings, activations: null } }
  })
  const quantised = tensors.flatMap(({ name }, i) => {
    const step = entries[i]
    return step.action === 'quantize' ? [{ name, settings: step.settings }] : []
  })
  return {
    tensors: entries,
    warnings: [...config.warnings, ...warnings, ...(activations ? activationWarnings(quantised) : [])],
    storedConfig: null,
    files: new Map([[QMAP_FILE, qmap(inModelOrder(quantised, model))]]),
  }
}

interface Planned {
  readonly name: string
  readonly settings: QuantoSettings
}

function activationWarnings(planned: readonly Planned[]): string[] {
  const left = planned.filter(({ settings }) => !settings.activations).map(({ name }) => moduleOf(name))
  const outside = `${left.join(', ')}: the input stays float, calibration goes through the decoder blocks`
  const reload =
    'optimum-quanto quantises outputs too when it loads this folder (its issue 378): its results will be worse than these'
  return [...(left.length > 0 ? [outside] : []), reload]
}

function assertQuantisable({ name, dtype, shape }: TensorInfo): void {
  if (isQuantisable(dtype)) return
  throw new WeightError(`Cannot quantise "${name}" with Quanto: it is ${dtype}, expected F32, F16, BF16`, {
    tensor: name,
    shape,
    actual: dtype as DType,
    hint: '--dtype float32',
  })
}

/** The reference walks the model's modules, not the file's names. */
function inModelOrder(planned: readonly Planned[], { parameters = [] }: ModelInfo): Planned[] {
  const place = new Map(parameters.map((name, i) => [name, i]))
  return [...planned].sort((a, b) => (place.get(a.name) ?? 0) - (place.get(b.name) ?? 0))
}

/** quanto_qmap.json: indent 4, no final newline. */
function qmap(planned: readonly Planned[]): string {
  const entry = ({ qtype, activations }: QuantoSettings) => ({
    weights: qtype.name,
    activations: activations?.name ?? 'none',
  })
  const map = Object.fromEntries(planned.map(({ name, settings }) => [moduleOf(name), entry(settings)]))
  return JSON.stringify(map, undefined, 4)
}
