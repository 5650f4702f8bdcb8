// `node test/parity/gguf-files.mjs [--model FOLDER] [--types q4_k_m,iq4_xs] [--runs 1] [--threads 2]`: whole GGUF files of every file type, with
// and without an importance matrix, against llama-quantize: byte for byte, and the time of both, runs interleaved, the best of each.
// FEWBIT_PARITY_LLAMA: llama.cpp's bin folder with llama-quantize and llama-imatrix.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'

const ROOT = resolve(import.meta.dirname, '../..')
const TYPES =
  'q4_0 q4_1 q5_0 q5_1 q8_0 q2_k q2_k_s q3_k_s q3_k_m q3_k_l q4_k_s q4_k_m q5_k_s q5_k_m q6_k iq1_s iq1_m iq2_xxs iq2_xs iq2_s iq2_m ' +
  'iq3_xxs iq3_xs iq3_s iq3_m iq4_nl iq4_xs tq1_0 tq2_0 mxfp4_moe q1_0 q2_0'
const { values } = parseArgs({
  options: {
    model: { type: 'string', default: join(ROOT, 'models', 'stories-7m') },
    types: { type: 'string', default: TYPES.replaceAll(' ', ',') },
    runs: { type: 'string', default: '1' },
    threads: { type: 'string', default: '2' },
  },
})
const llama = process.env.FEWBIT_PARITY_LLAMA
if (!llama || !existsSync(join(llama, 'llama-quantize'))) {
  console.log("skipped: set FEWBIT_PARITY_LLAMA to llama.cpp's bin folder")
  process.exit(0)
}
// The path of the importance matrix is stored in the file: both sides are given the same.
const work = mkdtempSync(join(tmpdir(), 'fewbit-gguf-'))
let failed = 0

function run(command, args) {
  const started = performance.now()
  const { status, stderr, stdout, error } = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 1 << 28 })
  const seconds = (performance.now() - started) / 1000
  return { ok: status === 0, seconds, said: error ? String(error) : `${stderr}${stdout}`.trim().split('\n').at(-1) }
}

function must(command, args) {
  const result = run(command, args)
  if (!result.ok) throw new Error(`${command} ${args.join(' ')}: ${result.said}`)
}

const CLI = join(ROOT, 'dist', 'cli.mjs')
const source = join(work, 'source.gguf')
const imatrix = join(work, 'imatrix.gguf')

/** Both sides make the file `runs` times, in turn. */
function compare(type, withImatrix) {
  const [ours, theirs] = [join(work, 'ours.gguf'), join(work, 'theirs.gguf')]
  const extra = withImatrix ? ['--imatrix', imatrix] : []
  const best = { ours: Infinity, theirs: Infinity }
  let [a, b] = []
  for (let i = 0; i < Number(values.runs); i++) {
    const flags = ['--method', 'gguf', '--type', type, ...extra, '--threads', values.threads, '--force', '-o', ours]
    b = run(join(llama, 'llama-quantize'), [...extra, source, theirs, type, values.threads])
    a = run(process.execPath, [CLI, 'quantize', source, ...flags])
    best.ours = Math.min(best.ours, a.seconds)
    best.theirs = Math.min(best.theirs, b.seconds)
  }
  const name = `${type}${withImatrix ? ' +imatrix' : ''}`.padEnd(20)
  if (!b.ok && !a.ok) return console.log(`${name} refused by both`)
  if (a.ok !== b.ok) {
    failed++
    return console.log(
      `${name} FAILED: fewbit ${a.ok ? 'wrote it' : a.said}; llama-quantize ${b.ok ? 'wrote it' : b.said}`,
    )
  }
  const equal = readFileSync(ours).equals(readFileSync(theirs))
  if (!equal) failed++
  const ratio = (best.theirs / best.ours).toFixed(2)
  console.log(
    `${name} ${equal ? 'equal' : 'DIFFERS'}  ${best.ours.toFixed(2)} s, llama-quantize ${best.theirs.toFixed(2)} s: ${ratio} x`,
  )
}

try {
  must(process.execPath, [CLI, 'quantize', values.model, '--method', 'gguf', '--type', 'bf16', '-o', source])
  const text = join(ROOT, 'models', 'data', 'eval.txt')
  const chunks = ['-c', '512', '--chunks', '20', '-t', values.threads]
  must(join(llama, 'llama-imatrix'), ['-m', source, '-f', text, '-o', imatrix, ...chunks])
  for (const type of values.types.split(',')) for (const withImatrix of [false, true]) compare(type, withImatrix)
} finally {
  rmSync(work, { recursive: true, force: true })
}
console.log(failed ? `${failed} FAILED` : 'all files equal')
process.exitCode = failed ? 1 : 0
