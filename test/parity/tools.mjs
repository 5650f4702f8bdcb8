// What the sections of a parity run share: programs, fewbit's own commands, and the packages.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { difference, tensorOf } from './files.mjs'

export const ROOT = resolve(import.meta.dirname, '../..')
export const TEXT = join(ROOT, 'models', 'data', 'eval.txt')
export const work = mkdtempSync(join(tmpdir(), 'fewbit-parity-'))
const THREADS = process.env.FEWBIT_PARITY_THREADS ?? '1'

export function run(command, args, env = {}) {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    encoding: 'utf8',
    // aqlm's kernel for the CPU adds from several threads into one sum.
    env: { NUMBA_NUM_THREADS: '1', ...process.env, ...env },
    maxBuffer: 1 << 28,
  })
  if (status !== 0) throw new Error(`${command}: ${error ?? stderr.slice(-600)}`)
  return stdout
}

export const fewbit = (...args) => run(process.execPath, [join(ROOT, 'dist', 'cli.mjs'), ...args])

/** The path of `model` (of models.mjs) quantised by fewbit. */
export function quantized(model, flags, name) {
  const out = join(work, name)
  fewbit('quantize', model.path, ...flags, '--threads', THREADS, '--force', '-o', out)
  return out
}

/** fewbit's perplexity, and KL divergence to the float model, in windows of 512 tokens: of all, or of the first `limit` tokens. */
export function quality(path, { embedded, limit }) {
  const first = limit ? ['--limit', String(limit)] : []
  const flags = ['--baseline', embedded.path, '--text', TEXT, ...first, '--threads', THREADS, '--json']
  return JSON.parse(
    fewbit('eval', path, ...flags)
      .trim()
      .split('\n')
      .at(-1),
  )
}

/** What packages.py answers to each variant of a job, in order. */
export function packages(python, job, env) {
  const file = join(work, 'job.json')
  writeFileSync(file, JSON.stringify(job))
  const lines = run(python, [join(import.meta.dirname, 'packages.py'), file], env)
    .trim()
    .split('\n')
  const answers = lines.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line))
  if (answers.length !== job.variants.length)
    throw new Error(`${answers.length} answers to ${job.variants.length} variants`)
  return answers
}

/** What a job of packages.py that measures needs: the text, and the float model with the file of its logits. */
export const measuring = ({ embedded, limit }) => ({
  base: embedded.path,
  text: TEXT,
  limit,
  kept: join(work, 'float.npy'),
  threads: Number(THREADS),
})

/** The quality of folders or files as the package has it, on the ids and beside the float model that fewbit has them. */
export function theirQuality(python, name, paths, context) {
  const variants = paths.map((path) => ({ path }))
  return packages(python, { do: 'measure', package: name, ...measuring(context), variants })
}

/** `count` token ids of a model. */
export const idsOf = (model, draw, count = 24) => Array.from({ length: count }, () => 3 + draw(model.vocab - 3))

/** The largest differences of logits, as parts of the span: of what fewbit has written ({ path, ids, like } each), as the package and as fewbit run it. */
export function logitDifferences(python, name, files) {
  const variants = files.map((file, i) => ({ ...file, out: join(work, `logits-${i}.safetensors`) }))
  packages(python, { do: 'logits', package: name, variants })
  return variants.map(({ path, ids, out }) => {
    const d = difference(ourLogits(path, ids), tensorOf(out))
    rmSync(out)
    return d
  })
}

/** float32 logits of ids by fewbit: exact, on a device. */
export function ourLogits(path, ids, device = 'cpu') {
  const out = join(work, 'ours.safetensors')
  fewbit('logits', path, '--ids', ids.join(','), '--device', device, '--exact', '--force', '-o', out)
  return tensorOf(out)
}

/** Whole numbers below a limit, the same for the same seed (splitmix32). */
export function drawing(seed) {
  let state = seed | 0
  return (limit) => {
    state = (state + 0x9e3779b9) | 0
    let z = Math.imul(state ^ (state >>> 16), 0x21f0aaad)
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97)
    return ((z ^ (z >>> 15)) >>> 0) % limit
  }
}
