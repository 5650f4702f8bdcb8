// Which linears are quantised and why the others are not; a scheme that a layer cannot have is refused before any work.
import { WeightError } from '../../core/errors.ts'
import type { AdditiveScheme } from '../../weights/scheme.ts'
import { headModule, moduleOf, tiedHeadReason } from '../skip.ts'
import type { ModelInfo, QuantizationPlan, TensorInfo, TensorPlan } from '../types.ts'
import { type Aqlm, nameOf, SKIP_KEY, storedConfig } from './config.ts'
import type { AqlmSettings } from './quantize.ts'

const QUANTISABLE = ['F32', 'F16', 'BF16']

/**
 * The entry of a skip list that protects `module`. Entries are parameter names (`lm_head.weight`, as the converter writes) or regular
 * expressions on module names (as transformers 5 reads them), whose dots are taken literally.
 */
export function skipEntry(entries: readonly string[], module: string): string | undefined {
  return entries.find((entry) => {
    if (entry.endsWith('.bias')) return false
    const text = entry.replace(/(?<=.)\.weight$/, '')
    return module.endsWith(text) || patternOf(text)?.test(module) === true
  })
}

const patterns = new Map<string, RegExp | undefined>()

/** Undefined where the entry is no regular expression: then it is a name only. */
function patternOf(text: string): RegExp | undefined {
  if (patterns.has(text)) return patterns.get(text)
  let pattern: RegExp | undefined
  try {
    pattern = new RegExp(`^(?:${text.replace(/(?<!\\)\.(?![*+?{])/g, '\\.')})(?:(?<=\\.)|(?=\\.|$))`)
  } catch {
    pattern = undefined
  }
  patterns.set(text, pattern)
  return pattern
}

export function plan(tensors: readonly TensorInfo[], model: ModelInfo, config: Aqlm): QuantizationPlan<AqlmSettings> {
  const plans = tensors.map((tensor) => planTensor(tensor, model, config))
  return {
    tensors: plans,
    warnings: [...config.warnings, ...warningsOf(tensors, config)],
    storedConfig: storedConfig(config, listToStore(tensors, plans, config)),
  }
}

function planTensor(tensor: TensorInfo, model: ModelInfo, config: Aqlm): TensorPlan<AqlmSettings> {
  if (tensor.role === 'head') return { action: 'keep', reason: 'output head' }
  if (tensor.role !== 'linear') return { action: 'keep', reason: tiedHeadReason(tensor, model) }
  const entry = skipEntry(config.skip, moduleOf(tensor.name))
  if (entry !== undefined) return { action: 'keep', reason: `skipped by ${JSON.stringify(entry)} of ${SKIP_KEY}` }
  assertQuantisable(tensor, config.scheme)
  return { action: 'quantize', settings: { scheme: config.scheme, search: config.search } }
}

/** Throws WeightError where `tensor` cannot have `scheme`, naming what it can have. */
function assertQuantisable({ name, shape, dtype }: TensorInfo, scheme: AdditiveScheme): void {
  const { bits, group } = scheme
  const fields = { tensor: name, shape, scheme: nameOf(scheme) }
  const what = `Cannot quantise "${name}" [${shape}] with AQLM ${nameOf(scheme)}`
  const skip = `leave it float: --linear-weights-not-to-quantize ${moduleOf(name)}`
  if (!QUANTISABLE.includes(dtype))
    throw new WeightError(`${what}: it is ${dtype}, expected ${QUANTISABLE.join(', ')}`, {
      ...fields,
      actual: dtype,
      hint: dtype === 'F64' ? '--dtype float32' : skip,
    })
  const [rows, columns] = shape
  if (columns % group.in !== 0)
    throw new WeightError(`${what}: its ${columns} columns do not divide into groups of ${group.in}`, {
      ...fields,
      hint: `--group-size ${divisorBelow(columns, group.in)}, or ${skip}`,
    })
  if (rows % group.out !== 0)
    throw new WeightError(`${what}: its ${rows} rows do not divide into groups of ${group.out}`, {
      ...fields,
      hint: `--out-group-size ${divisorBelow(rows, group.out)}, or ${skip}`,
    })
  const groups = (rows / group.out) * (columns / group.in)
  if (groups >= 2 ** bits) return
  const most = Math.floor(Math.log2(groups))
  throw new WeightError(
    `${what}: it has ${groups} groups, fewer than the ${2 ** bits} entries of a codebook${most > 0 ? `; codebooks of at most ${most} bits fit` : ''}`,
    { ...fields, groups, mostBits: most, hint: `${fittingScheme(scheme, most)}${skip}` },
  )
}

/** A flag for about the same bits a weight with codebooks of at most `most` bits. */
function fittingScheme({ bits, codebooks, group }: AdditiveScheme, most: number): string {
  if (most < 1) return ''
  const width = Math.min(most, 8)
  return `--type ${Math.max(1, Math.round((bits * codebooks) / width))}x${width}g${group.in}, or `
}

function divisorBelow(count: number, size: number): number {
  let divisor = Math.min(count, size)
  while (count % divisor !== 0) divisor--
  return divisor
}

/** The given list, completed by what stays float: module names for transformers 5, parameter names for the releases before. */
function listToStore(
  tensors: readonly TensorInfo[],
  plans: readonly TensorPlan<AqlmSettings>[],
  { skip }: Aqlm,
): string[] {
  const kept = tensors.flatMap(({ name, role }, i) =>
    role === 'linear' && plans[i].action === 'keep' ? [moduleOf(name)] : [],
  )
  const names = [headModule(tensors), ...kept].flatMap((module) => [module, `${module}.weight`])
  return [...new Set([...skip, ...names])]
}

function warningsOf(tensors: readonly TensorInfo[], { skip }: Aqlm): string[] {
  const modules = [...tensors.map(({ name }) => moduleOf(name)), headModule(tensors)]
  return skip
    .filter((entry) => !entry.endsWith('.bias') && !modules.some((module) => skipEntry([entry], module) !== undefined))
    .map((entry) => `${SKIP_KEY}: ${JSON.stringify(entry)} matches no module`)
}
