// What a command is: data for help and parsing, and one function that calls the library. The printer is given, never made here.
import type { Output } from './output.ts'

/** Flags that a command does not declare; one that is given several times is a list. */
export type UndeclaredFlags = Readonly<Record<string, string | boolean | readonly string[]>>

export interface OptionSpec {
  /** commander's spelling: `--bits <n>`, `--force`, `-o, --out <path>`. */
  readonly flags: string
  readonly description: string
  readonly parse?: (text: string, previous: unknown) => unknown
  readonly default?: unknown
}

export interface ArgumentSpec {
  /** `<model>` where it must be given, `[text]` where it may be left out, `[files...]` for many. */
  readonly name: string
  readonly description: string
  readonly default?: string
}

export interface CommandContext {
  readonly args: readonly (string | undefined)[]
  readonly options: Readonly<Record<string, unknown>>
  readonly output: Output
  readonly signal: AbortSignal
  /** Flags that the command does not declare, in camelCase (only where `passUnknown`). */
  readonly unknown: UndeclaredFlags
}

export interface CommandSpec {
  readonly summary: string
  readonly arguments?: readonly ArgumentSpec[]
  readonly options?: readonly OptionSpec[]
  /** Runnable lines; a test runs each of them. */
  readonly examples: readonly string[]
  /** Unknown flags are handed to `run` (a method's own config keys) instead of being refused. */
  readonly passUnknown?: boolean
  run(context: CommandContext): Promise<void>
}

/** Marks a record as a command (and checks its type). */
export function command(spec: CommandSpec): CommandSpec {
  return spec
}
