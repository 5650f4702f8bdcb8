#!/usr/bin/env node
// The command line: parses, calls one library function, prints.
import { Command } from 'commander'

const program = new Command('fewbit').description('Quantise, run, evaluate and compare language models')
program
  .command('demo')
  .description('quantise the embedded model, save, load, generate and compare')
  .action(async () => (await import('./commands/demo.ts')).demo())

await program.parseAsync()
