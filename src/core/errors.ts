// Every error that fewbit throws on purpose. A message says what was being done, what was found and what would be right;
// `fields` carries the values so that the CLI, a server and tests need not parse text; `hint` is the next thing to type.

export interface ErrorDetails {
  /** The next command or change to try. */
  hint?: string
  /** Values behind the message: file, tensor, offset, expected, actual ... */
  [field: string]: unknown
}

/** Base of all deliberate errors. `exitCode` is what the command line returns for it. */
export class FewbitError extends Error {
  readonly code: string = 'error'
  readonly exitCode: number = 1
  readonly fields: Record<string, unknown>
  readonly hint: string | undefined

  constructor(message: string, details: ErrorDetails = {}) {
    const { hint, cause, ...fields } = details
    super(message, cause === undefined ? undefined : { cause })
    this.name = new.target.name
    this.hint = hint
    this.fields = fields
  }
}

/** A file is missing, damaged, or not what it claims to be. */
export class FileError extends FewbitError {
  override readonly code: string = 'file'
}

/** A config.json, a quantization_config or an option object holds an illegal value. */
export class ConfigError extends FewbitError {
  override readonly code: string = 'config'
}

/** A tensor's values or shape cannot be quantised or used (NaN, infinity, ragged shape). */
export class WeightError extends FewbitError {
  override readonly code: string = 'weight'
}

/** The request is understood but not possible here (unknown model type, absent device). */
export class UnsupportedError extends FewbitError {
  override readonly code: string = 'unsupported'
}

/** The command line itself is wrong: unknown command, method, device or flag value. */
export class UsageError extends FewbitError {
  override readonly code: string = 'usage'
  override readonly exitCode: number = 2
}

/** The machine (or the 4 GiB of WASM) has no memory left for what was asked. */
export class OutOfMemoryError extends FewbitError {
  override readonly code: string = 'memory'
}

/** The user interrupted the work. */
export class InterruptedError extends FewbitError {
  override readonly code: string = 'interrupted'
  override readonly exitCode: number = 130
}

/** A promise inside fewbit was broken: always a bug to report, never the user's fault. */
export class BugError extends FewbitError {
  override readonly code: string = 'bug'
  override readonly exitCode: number = 3
}

/** `"groupSize" is 63: nearest legal values are 32 and 64`, for hints over an ordered list of legal numbers. */
export function nearestLegal(value: number, legal: readonly number[]): string {
  const sorted = [...legal].sort((a, b) => Math.abs(a - value) - Math.abs(b - value))
  return `nearest legal values are ${sorted.slice(0, 2).join(' and ')}`
}
