// Which linears a method leaves alone: skip lists with the rule of transformers' should_convert_module, and the automatic list.
// Differences, on purpose: a trailing ".weight" is stripped, and patterns that match nothing are reported.
import { ConfigError } from '../core/errors.ts'
import type { ModelInfo, TensorInfo } from './types.ts'

/** A compiled skip list. */
export interface SkipList {
  /** The first pattern that skips the module of this full dotted name, or undefined. */
  match(module: string): string | undefined
  /** Patterns that skip none of `modules`. */
  unmatched(modules: readonly string[]): string[]
}

/** Python spells a few regular expressions differently. */
const PYTHON_SYNTAX: readonly (readonly [RegExp, string])[] = [
  [/\(\?P</g, '(?<'],
  [/\(\?P=(\w+)\)/g, '\\k<$1>'],
  [/\\A/g, '^'],
  [/\\Z/g, '$'],
]

interface Rule {
  readonly pattern: string
  readonly text: string
  readonly regex: RegExp
}

function compile(pattern: string, key: string): Rule {
  const text = pattern.endsWith('.weight') && pattern !== '.weight' ? pattern.slice(0, -'.weight'.length) : pattern
  let source = text
  for (const [python, javascript] of PYTHON_SYNTAX) source = source.replace(python, javascript)
  try {
    return { pattern, text, regex: new RegExp(`^(?:${source})(?:(?<=\\.)|(?=\\.|$))`) }
  } catch (cause) {
    throw new ConfigError(
      `"${key}": ${JSON.stringify(pattern)} is not a regular expression (${(cause as Error).message})`,
      {
        key,
        actual: pattern,
        hint: 'a pattern is matched from the start of a module name; "." stands for any character',
      },
    )
  }
}

/**
 * Compiles the patterns of config key `key`. A pattern skips a module where it matches, as a regular expression, from the start of
 * the full name to a module boundary, or where the name ends with it literally. Throws ConfigError naming a bad pattern.
 */
export function skipList(patterns: readonly string[], key: string): SkipList {
  const rules = patterns.map((pattern) => compile(pattern, key))
  const skips = (rule: Rule, module: string) => rule.regex.test(module) || module.endsWith(rule.text)
  return {
    match: (module) => rules.find((rule) => skips(rule, module))?.pattern,
    unmatched: (modules) =>
      rules.filter((rule) => !modules.some((module) => skips(rule, module))).map((rule) => rule.pattern),
  }
}

/** `model.layers.0.mlp.up_proj.weight` -> `model.layers.0.mlp.up_proj`. */
export function moduleOf(tensorName: string): string {
  return tensorName.replace(/\.(?:weight|bias)$/, '')
}

/** Module of the output head; a tied one owns no tensor and has the usual name. */
export function headModule(tensors: readonly TensorInfo[]): string {
  const head = tensors.find((t) => t.role === 'head')
  return head ? moduleOf(head.name) : 'lm_head'
}

/** Why an embedding that is the output head too stays float; undefined for any other tensor. */
export function tiedHeadReason({ role }: TensorInfo, { tied }: ModelInfo): string | undefined {
  return role === 'embedding' && tied ? 'output head, tied to the embedding' : undefined
}

/**
 * The names that the reference skips where no list is given, sorted: the head, the owner of the last parameter, and both sides
 * of a tied pair.
 */
export function automaticSkips(tensors: readonly TensorInfo[], model: ModelInfo): string[] {
  const names = new Set([headModule(tensors), model.lastModule])
  if (model.tied) for (const t of tensors) if (t.role === 'embedding') names.add(moduleOf(t.name))
  return [...names].sort()
}

export interface SkipDecisions {
  /** One entry a tensor: why a linear, the head or a tied embedding stays float; undefined for those to quantise and for other roles. */
  readonly reasons: readonly (string | undefined)[]
  readonly warnings: readonly string[]
}

/**
 * Applies a skip list to the linears and the head of a model. `patterns` null: the automatic list; a given list replaces it, with a
 * warning where that quantises the head. A tied head always stays float, with a warning where the list does not name it.
 */
export function decideSkips(
  tensors: readonly TensorInfo[],
  model: ModelInfo,
  patterns: readonly string[] | null,
  key: string,
): SkipDecisions {
  const list = skipList(patterns ?? automaticSkips(tensors, model), key)
  const warnings: string[] = []
  const head = headModule(tensors)
  const reasons = tensors.map((t) => {
    if (t.role !== 'linear' && t.role !== 'head') return tiedHeadReason(t, model)
    const pattern = list.match(moduleOf(t.name))
    if (pattern !== undefined) return patterns ? `skipped by ${JSON.stringify(pattern)} of ${key}` : 'output head'
    return t.role === 'head' && model.tied ? 'tied to the embedding' : undefined
  })
  if (patterns) {
    const modules = [...new Set([...tensors.map((t) => moduleOf(t.name)), head])]
    for (const pattern of list.unmatched(modules)) warnings.push(unmatchedWarning(pattern, modules, key))
    if (list.match(head) === undefined) warnings.push(headWarning(head, model.tied, key))
  }
  return { reasons, warnings }
}

function unmatchedWarning(pattern: string, modules: readonly string[], key: string): string {
  const near = modules.find((module) => module.includes(pattern))
  const advice = near ? `; ".*${pattern}" would skip ${near}` : ''
  return `${key}: ${JSON.stringify(pattern)} matches no module (a pattern must match from the start of a name, or be its end)${advice}`
}

function headWarning(head: string, tied: boolean, key: string): string {
  return tied
    ? `${head} is tied to the embedding: both stay float although ${key} does not name it`
    : `${head} is quantised: ${key} replaces the automatic list, which skips it`
}
