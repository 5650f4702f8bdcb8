// The two printers: text for people (results on stdout, progress and warnings on stderr), or one JSON event a line on stdout.
import pc from 'picocolors'
import { FewbitError } from '../core/errors.ts'
import type { WorkEvent } from '../core/events.ts'
import { ProgressLine } from './progress.ts'

export interface Output {
  readonly json: boolean
  /** Steps, progress and warnings of long work. */
  event(event: WorkEvent): void
  /** Text for people as it comes (generated text); nothing with --json. */
  text(piece: string): void
  /** The result: fields for --json, a text for people. The last thing a command does. */
  result(fields: Readonly<Record<string, unknown>>, text: string): void
  error(error: unknown): void
}

/** The machine-readable form of an error. */
function errorFields(error: unknown): Record<string, unknown> {
  if (error instanceof FewbitError) {
    return { code: error.code, message: error.message, ...(error.hint ? { hint: error.hint } : {}), ...error.fields }
  }
  const message = error instanceof Error ? error.message : String(error)
  return { code: 'bug', message, hint: 'this is a fault of fewbit: please report it with the command that you typed' }
}

function jsonOutput(): Output {
  const write = (event: Record<string, unknown>) => process.stdout.write(`${JSON.stringify(event)}\n`)
  return {
    json: true,
    event: (event) => write({ ...event }),
    text: () => {},
    result: (fields) => write({ event: 'result', ...fields }),
    error: (error) => write({ event: 'error', ...errorFields(error) }),
  }
}

function textOutput(): Output {
  const progress = process.stderr.isTTY ? new ProgressLine(process.stderr) : undefined
  return {
    json: false,
    event(event) {
      if (event.event === 'progress') progress?.update(event)
      else if (event.event === 'warning') {
        progress?.clear()
        process.stderr.write(`${pc.yellow('warning')}: ${event.message}\n`)
      } else progress?.step(event.name)
    },
    text(piece) {
      progress?.clear()
      process.stdout.write(piece)
    },
    result(_fields, text) {
      progress?.clear()
      if (text) process.stdout.write(text.endsWith('\n') ? text : `${text}\n`)
    },
    error(error) {
      progress?.clear()
      const { message, hint } = errorFields(error)
      process.stderr.write(`${pc.red('error')}: ${message}\n${hint ? `  hint: ${hint}\n` : ''}`)
      if (!(error instanceof FewbitError) && process.env.FEWBIT_DEBUG && error instanceof Error)
        process.stderr.write(`${error.stack}\n`)
    },
  }
}

export function createOutput(json: boolean): Output {
  return json ? jsonOutput() : textOutput()
}
