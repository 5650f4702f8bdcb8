#!/usr/bin/env node
// The command line: finds the command, parses its flags, runs it with a printer and a signal, and turns errors into exit codes.
// Only the asked command's file is loaded, which keeps `--help` quick.
import { Command, CommanderError } from 'commander'
import { FewbitError, InterruptedError, UsageError } from '../core/errors.ts'
import type { CommandSpec, UndeclaredFlags } from './command.ts'
import { COMMANDS } from './commands.ts'
import { createOutput, type Output } from './output.ts'
import { packageVersion } from './paths.ts'

/** A second Ctrl-C, or this long after the first, ends the process whatever it is doing. */
const INTERRUPT_MS = 800

/** Exit code of an error: 1 user or file, 2 command line, 3 a fault of fewbit, 130 interrupted. */
function exitCodeOf(error: unknown): number {
  if (error instanceof FewbitError) return error.exitCode
  return error instanceof Error && error.name === 'AbortError' ? 130 : 3
}

function interruptible(): AbortSignal {
  const controller = new AbortController()
  process.on('SIGINT', () => {
    if (controller.signal.aborted) process.exit(130)
    controller.abort(new InterruptedError('Interrupted'))
    setTimeout(() => process.exit(130), INTERRUPT_MS).unref()
  })
  return controller.signal
}

/** Flags that the command does not declare, as `--key value`, `--key=value` or `--key`; keys in camelCase. */
function unknownFlags(operands: readonly string[]): { args: string[]; unknown: UndeclaredFlags } {
  const args: string[] = []
  const unknown: Record<string, string | boolean | readonly string[]> = {}
  const add = (key: string, value: string | boolean) => {
    const before = unknown[key]
    unknown[key] = before === undefined ? value : [before, value].flat().map(String)
  }
  for (let i = 0; i < operands.length; i++) {
    const match = /^--([a-z0-9-]+)(?:=(.*))?$/s.exec(operands[i])
    if (!match) {
      args.push(operands[i])
      continue
    }
    const key = match[1].replace(/-([a-z0-9])/g, (_, c: string) => c.toUpperCase())
    const next = operands[i + 1]
    if (match[2] !== undefined) add(key, match[2])
    else if (next !== undefined && !next.startsWith('--')) add(key, operands[++i])
    else add(key, true)
  }
  return { args, unknown }
}

function declare(program: Command, name: string, spec: CommandSpec, output: Output): void {
  const sub = program.command(name).description(spec.summary)
  for (const argument of spec.arguments ?? []) sub.argument(argument.name, argument.description, argument.default)
  for (const option of spec.options ?? []) {
    const parse = option.parse as ((text: string, previous: unknown) => unknown) | undefined
    if (parse) sub.option(option.flags, option.description, parse, option.default)
    else sub.option(option.flags, option.description, option.default as string | boolean | undefined)
  }
  sub.option('--json', 'one JSON event a line on stdout, nothing else there')
  sub.addHelpText('after', `\nExamples:\n${spec.examples.map((line) => `  ${line}`).join('\n')}`)
  if (spec.passUnknown) sub.allowUnknownOption().allowExcessArguments()
  sub.action(async (...given: unknown[]) => {
    const { args, unknown } = spec.passUnknown ? unknownFlags(sub.args) : { args: sub.args, unknown: {} }
    const filled = (spec.arguments ?? []).map((argument, i) => args[i] ?? argument.default)
    const missing = (spec.arguments ?? []).find(
      (argument, i) => argument.name.startsWith('<') && filled[i] === undefined,
    )
    if (missing) throw new UsageError(`fewbit ${name}: ${missing.name} is missing`, { hint: `fewbit ${name} --help` })
    if (args.length > filled.length && !spec.arguments?.at(-1)?.name.includes('...')) {
      throw new UsageError(`fewbit ${name}: "${args[filled.length]}" is one argument too many`, {
        hint: `fewbit ${name} --help`,
      })
    }
    const rest = args.length > filled.length ? args : filled
    await spec.run({
      args: rest,
      options: given.at(-2) as Record<string, unknown>,
      output,
      signal: interruptible(),
      unknown,
    })
  })
}

/** commander's own complaints as a UsageError; help and version are not errors. */
function usageError(error: unknown): unknown {
  if (!(error instanceof CommanderError) || error.exitCode === 0) return error
  const name = process.argv[2] ?? ''
  return new UsageError(error.message.replace(/^error: /, ''), {
    hint: name in COMMANDS ? `fewbit ${name} --help` : 'fewbit --help',
  })
}

async function main(argv: readonly string[]): Promise<number> {
  const output = createOutput(argv.includes('--json'))
  const program = new Command('fewbit')
    .description('Quantise, run, evaluate and compare transformer language models on any CPU')
    .version(packageVersion())
    .enablePositionalOptions() // "version" is a key of AWQ's config: behind a command it is that command's
    .exitOverride()
    .configureOutput({ writeErr: () => {} })
  const asked = argv.find((word) => !word.startsWith('-'))
  try {
    for (const [name, { summary, load }] of Object.entries(COMMANDS)) {
      if (name === asked) {
        const { default: spec } = await load()
        declare(program, name, spec, output)
        program.commands
          .at(-1)
          ?.exitOverride()
          .configureOutput({ writeErr: () => {} })
      } else program.command(name).description(summary)
    }
    if (argv.length === 0) program.outputHelp()
    else if (asked && !(asked in COMMANDS)) {
      throw new UsageError(`Unknown command "${asked}": there are ${Object.keys(COMMANDS).join(', ')}`, {
        command: asked,
        hint: 'fewbit --help',
      })
    } else await program.parseAsync([...argv], { from: 'user' })
    return 0
  } catch (raw) {
    const error = usageError(raw)
    if (error instanceof CommanderError) return 0
    output.error(error)
    return exitCodeOf(error)
  }
}

/** A reader that went away (`| head`) is no error. */
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  process.exit(error.code === 'EPIPE' ? 0 : 3)
})
process.exitCode = await main(process.argv.slice(2))
