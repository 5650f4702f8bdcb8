// What the sections of a parity run share: programs, fewbit's own commands, and the record of what agreed.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { tensorOf } from './files.mjs'

export const ROOT = resolve(import.meta.dirname, '../..')
export const TEXT = join(ROOT, 'models', 'data', 'eval.txt')
export const work = mkdtempSync(join(tmpdir(), 'fewbit-parity-'))

/** The interpreter or folder that an environment variable names; says that the section is skipped where there is none. */
export function given(variable, section) {
  const value = process.env[variable]
  if (!value) console.log(`skip ${section}: ${variable} is not set`)
  return value
}

export function run(command, args, env = {}) {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    encoding: 'utf8',
    // aqlm's kernel for the CPU adds from several threads into one sum.
    env: { NUMBA_NUM_THREADS: '1', ...process.env, ...env },
    maxBuffer: 1 << 26,
  })
  if (status !== 0) throw new Error(`${command}: ${error ?? stderr.slice(-600)}`)
  return stdout
}

export const fewbit = (...args) => run(process.execPath, [join(ROOT, 'dist', 'cli.mjs'), ...args])

export function quantized(model, flags, name) {
  const out = join(work, name)
  fewbit('quantize', model, ...flags, '--force', '-o', out)
  return out
}

export function logits(path, ids) {
  const out = join(work, 'ours.safetensors')
  fewbit('logits', path, '--ids', ids, '--exact', '--force', '-o', out)
  return tensorOf(out)
}

/** Perplexity and KL divergence to the float model, windows of 512 tokens: all, or of the first `limit` tokens. */
export function quality(path, model, limit) {
  const first = limit ? ['--limit', String(limit)] : []
  const events = fewbit('eval', path, '--baseline', model, '--text', TEXT, ...first, '--json')
    .trim()
    .split('\n')
  return JSON.parse(events.at(-1))
}

/** The lines that packages.py prints for a job. */
export function packages(python, job, env = {}) {
  const file = join(work, 'job.json')
  writeFileSync(file, JSON.stringify(job))
  const lines = run(python, [join(import.meta.dirname, 'packages.py'), file], env)
    .trim()
    .split('\n')
  return lines.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line))
}

/** What was compared, section by section: for the console, the exit status and the page in docs/. */
export class Report {
  failed = 0
  sections = new Map()

  /** Opens a section of the page with its table's heading. */
  section(title, note, columns) {
    this.current = { note, columns, rows: [] }
    this.sections.set(title, this.current)
  }

  row(ok, cells) {
    if (!ok) this.failed++
    console.log(`${ok ? 'ok  ' : 'FAIL'} ${cells.join(', ')}`)
    this.current?.rows.push(ok ? cells : [...cells.slice(0, -1), `**${cells.at(-1)}**`])
  }

  /** Runs `compare`; what it throws is a failure of `name`. */
  attempt(name, compare) {
    try {
      compare()
    } catch (error) {
      this.failed++
      console.log(`FAIL ${name}: ${error.message}`)
      this.current?.rows.push([name, `**failed**`])
    }
  }
}
