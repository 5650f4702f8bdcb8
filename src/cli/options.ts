// Flags that several commands share, and the parsers of their values. A wrong value is a UsageError (exit code 2).
import type { Precision } from '../backends/types.ts'
import { ConfigError, UsageError } from '../core/errors.ts'
import type { OptionSpec } from './command.ts'

/** Runs `read`; what is wrong with the settings that flags stand for is wrong with the command line: a ConfigError becomes a UsageError. */
export function asUsage<T>(read: () => T): T {
  try {
    return read()
  } catch (e) {
    if (!(e instanceof ConfigError)) throw e
    throw new UsageError(e.message, { ...e.fields, hint: e.hint, cause: e })
  }
}

/** A whole number of at least `min`. */
export function wholeNumber(name: string, min = 0): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (text.trim() === '' || !Number.isInteger(value) || value < min) {
      throw new UsageError(`--${name} is "${text}", expected a whole number of at least ${min}`, {
        flag: name,
        actual: text,
      })
    }
    return value
  }
}

/** A number between `min` and `max`, both included. */
export function number(
  name: string,
  min = Number.NEGATIVE_INFINITY,
  max = Number.POSITIVE_INFINITY,
): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (text.trim() === '' || !Number.isFinite(value) || value < min || value > max) {
      throw new UsageError(`--${name} is "${text}", expected a number from ${min} to ${max}`, {
        flag: name,
        actual: text,
      })
    }
    return value
  }
}

/** `900MB`, `5GB` (powers of 1000, as save_pretrained reads them), or bytes. */
export function byteSize(name: string): (text: string) => number {
  return (text) => {
    const match = /^(\d+(?:\.\d+)?)\s*(KB|MB|GB|TB)?$/i.exec(text)
    const unit = { KB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12 }[match?.[2]?.toUpperCase() ?? ''] ?? 1
    if (match) return Number(match[1]) * unit
    throw new UsageError(`--${name} is "${text}", expected bytes or a size such as 900MB`, { flag: name, actual: text })
  }
}

/** One of a closed list. */
export function oneOf(name: string, legal: readonly string[]): (text: string) => string {
  return (text) => {
    if (legal.includes(text)) return text
    throw new UsageError(`--${name} is "${text}", expected one of ${legal.join(', ')}`, {
      flag: name,
      actual: text,
      legal,
    })
  }
}

/** Comma-separated token ids. */
export function idList(text: string): number[] {
  const ids = text.split(',').map((part) => (/^\s*\d+\s*$/.test(part) ? Number(part) : Number.NaN))
  if (ids.some((id) => !Number.isSafeInteger(id))) {
    throw new UsageError(`--ids is "${text}", expected whole numbers separated by commas`, {
      flag: 'ids',
      actual: text,
    })
  }
  return ids
}

/** Gathers a repeatable option. */
export function repeated<T>(parse: (text: string) => T): (text: string, previous: unknown) => T[] {
  return (text, previous) => [...((previous as T[] | undefined) ?? []), parse(text)]
}

const DEVICE_NAMES = ['cpu', 'wasm', 'reference']

export const RUN_OPTIONS: readonly OptionSpec[] = [
  {
    flags: '--device <name>',
    description: `where to compute: ${DEVICE_NAMES.join(', ')}`,
    parse: oneOf('device', DEVICE_NAMES),
    default: 'cpu',
  },
  {
    flags: '--threads <n>',
    description: 'threads at most (default: what the process may use)',
    parse: wholeNumber('threads', 1),
  },
]

export const PRECISION_OPTIONS: readonly OptionSpec[] = [
  { flags: '--exact', description: "as precise as float32: none of fewbit's own activation quantisation" },
  { flags: '--fast', description: 'allow every fast kernel (int8 activations on quantised weights)' },
]

export const SAMPLING_OPTIONS: readonly OptionSpec[] = [
  {
    flags: '--max-new-tokens <n>',
    description: 'stop after n new tokens',
    parse: wholeNumber('max-new-tokens', 1),
    default: 256,
  },
  { flags: '--temperature <t>', description: '0 is greedy; above 0 samples', parse: number('temperature', 0, 100) },
  { flags: '--top-k <n>', description: 'sample from the n likeliest tokens (0: all)', parse: wholeNumber('top-k') },
  {
    flags: '--top-p <p>',
    description: 'sample from the smallest set with probability p',
    parse: number('top-p', 0, 1),
  },
  { flags: '--min-p <p>', description: 'drop tokens below p times the likeliest', parse: number('min-p', 0, 1) },
  {
    flags: '--repetition-penalty <r>',
    description: 'above 1 discourages repeats',
    parse: number('repetition-penalty', 0.01, 100),
  },
  { flags: '--seed <n>', description: 'seed of the sampler', parse: wholeNumber('seed') },
  { flags: '--stop <text>', description: 'stop after this text (repeatable)', parse: repeated((text: string) => text) },
]

/** The command's default unless a flag says otherwise; `--fast` also allows what is off by default. */
export function precisionOf(options: Readonly<Record<string, unknown>>, fallback: Precision): Precision {
  if (options.exact && options.fast)
    throw new UsageError('--exact and --fast exclude each other', { flags: ['exact', 'fast'] })
  return options.exact ? 'exact' : options.fast ? 'fastest' : fallback
}
