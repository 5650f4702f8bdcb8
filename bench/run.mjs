// `npm run bench -- --model FOLDER [--llama BIN_FOLDER] [--threads 1,2] [--rounds 3] [--json]`
// Ratios, interleaved in one run, best of n: decode of each method against fewbit's own bf16 with the bytes read as the limit; Q4_0 against
// llama.cpp on the same file; WASM against the addon held to AVX2; quantising against llama-quantize; peak memory of `quantize`.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'

const ROOT = resolve(import.meta.dirname, '..')
const CLI = join(ROOT, 'dist', 'cli.mjs')
const { values } = parseArgs({
  options: {
    model: { type: 'string', default: join(ROOT, 'models', 'stories-7m') },
    llama: { type: 'string' },
    threads: { type: 'string', default: '1,2' },
    rounds: { type: 'string', default: '3' },
    json: { type: 'boolean', default: false },
  },
})
const threads = values.threads.split(',').map(Number)
const rounds = Number(values.rounds)
const work = mkdtempSync(join(tmpdir(), 'fewbit-bench-'))
const VARIANTS = [
  ['q4_0', ['--method', 'gguf', '--type', 'q4_0'], 'q4_0.gguf'],
  ['nf4', ['--method', 'bitsandbytes', '--bits', '4'], 'nf4'],
  ['hqq-4 g64', ['--method', 'hqq', '--bits', '4', '--group-size', '64'], 'hqq-4'],
  ['hqq-8', ['--method', 'hqq', '--bits', '8', '--group-size', '64'], 'hqq-8'],
  ['int8', ['--method', 'bitsandbytes', '--bits', '8'], 'int8'],
]

function run(command, args, env = {}) {
  const { status, stdout, stderr } = spawnSync(command, args, {
    encoding: 'utf8',
    env: { ...process.env, ...env },
    maxBuffer: 1 << 26,
  })
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} failed (${status}): ${stderr.slice(-500)}`)
  return stdout
}

function fewbit(args, env) {
  return JSON.parse(
    run(process.execPath, [CLI, ...args, '--json'], env)
      .trim()
      .split('\n')
      .at(-1),
  )
}

/** Best of the rounds of each contender, one after another in every round. */
function interleaved(contenders) {
  const best = new Map(contenders.map(([name]) => [name, { prefill: 0, decode: 0 }]))
  for (let r = 0; r < rounds; r++) {
    for (const [name, measure] of contenders) {
      const { prefill, decode, ...rest } = measure()
      const seen = best.get(name)
      best.set(name, { ...rest, prefill: Math.max(seen.prefill, prefill), decode: Math.max(seen.decode, decode) })
    }
  }
  return best
}

function speedOf(path, count, options = [], env = {}) {
  const r = fewbit(['bench', path, '--threads', String(count), '--repeat', '1', ...options], env)
  return { prefill: r.prefillTokensPerSecond, decode: r.decodeTokensPerSecond, weightBytes: r.weightBytes }
}

function llamaSpeed(path, count) {
  const rows = JSON.parse(
    run(join(values.llama, 'llama-bench'), [
      '-m',
      path,
      '-p',
      '128',
      '-n',
      '64',
      '-t',
      String(count),
      '-r',
      '1',
      '-o',
      'json',
    ]),
  )
  const of = (key) => rows.find((row) => row[key] > 0 && row[key === 'n_gen' ? 'n_prompt' : 'n_gen'] === 0).avg_ts
  return { prefill: of('n_prompt'), decode: of('n_gen') }
}

function bytesOf(path) {
  if (statSync(path).isFile()) return statSync(path).size
  return readdirSync(path)
    .filter((n) => n.endsWith('.safetensors'))
    .reduce((sum, n) => sum + statSync(join(path, n)).size, 0)
}

const results = []
const row = (what, figure, note = '') => {
  results.push({ what, figure, note })
  if (!values.json) console.log(`${what.padEnd(58)} ${String(figure).padStart(9)}  ${note}`)
}
const x = (value) => `${value.toFixed(2)} x`

try {
  console.log(
    `machine: ${cpus()[0].model}, ${cpus().length} threads, Node ${process.versions.node}; ${new Date().toISOString().slice(0, 10)}; best of ${rounds}, interleaved`,
  )
  const paths = new Map([['bf16', values.model]])
  for (const [name, flags, file] of VARIANTS) {
    const out = join(work, file)
    fewbit(['quantize', values.model, ...flags, '-o', out])
    paths.set(name, out)
  }
  for (const count of threads) {
    const contenders = [...paths].map(([name, path]) => [name, () => speedOf(path, count)])
    if (values.llama) contenders.push(['llama.cpp q4_0', () => llamaSpeed(paths.get('q4_0'), count)])
    const best = interleaved(contenders)
    const base = best.get('bf16')
    for (const [name, { prefill, decode, weightBytes }] of best) {
      const limit = weightBytes ? base.weightBytes / weightBytes : undefined
      const share =
        limit && name !== 'bf16'
          ? `${(decode / base.decode).toFixed(2)} x bf16, limit by bytes ${limit.toFixed(2)}: ${((decode / base.decode / limit) * 100).toFixed(0)}%`
          : ''
      row(`${name}, ${count} thread(s): decode / prompt tok/s`, `${decode.toFixed(1)} / ${prefill.toFixed(0)}`, share)
    }
    const [ours, theirs] = [best.get('q4_0'), best.get('llama.cpp q4_0')]
    if (theirs)
      row(
        `q4_0 against llama.cpp, ${count} thread(s): decode, prompt`,
        x(ours.decode / theirs.decode),
        x(ours.prefill / theirs.prefill),
      )
    const wasm = interleaved([
      ['wasm', () => speedOf(paths.get('q4_0'), count, ['--device', 'wasm'])],
      ['avx2', () => speedOf(paths.get('q4_0'), count, [], { FEWBIT_ISA: 'avx2' })],
    ])
    row(
      `q4_0 decode, WASM against the addon at AVX2, ${count} thread(s)`,
      x(wasm.get('wasm').decode / wasm.get('avx2').decode),
    )
  }
  if (values.llama && existsSync(join(values.llama, 'llama-quantize'))) {
    const f16 = join(work, 'f16.gguf')
    fewbit(['quantize', values.model, '--method', 'gguf', '--type', 'f16', '-o', f16])
    for (const type of ['q4_0', 'q8_0', 'q4_k_m']) {
      const best = { ours: Infinity, theirs: Infinity }
      for (let r = 0; r < rounds; r++) {
        const out = join(work, `${type}-${r}.gguf`)
        best.ours = Math.min(
          best.ours,
          fewbit(['quantize', f16, '--method', 'gguf', '--type', type, '-o', out, '--threads', '2']).elapsedMs,
        )
        const started = performance.now()
        run(join(values.llama, 'llama-quantize'), [f16, join(work, 'theirs.gguf'), type.toUpperCase(), '2'])
        best.theirs = Math.min(best.theirs, performance.now() - started)
        rmSync(out)
      }
      row(
        `quantising ${type} against llama-quantize, 2 threads`,
        x(best.theirs / best.ours),
        `${(bytesOf(f16) / 1e3 / best.ours).toFixed(0)} MB/s of f16`,
      )
    }
  }
  if (values.json) console.log(JSON.stringify(results))
} finally {
  rmSync(work, { recursive: true, force: true })
}
