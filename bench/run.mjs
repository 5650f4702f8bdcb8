// `npm run bench -- [--model FOLDER] [--with NAME=PATH ...] [--llama BIN_FOLDER] [--imatrix FILE] [--threads 1,2] [--rounds 3]
// [--only decode,wasm,quantize,convert,memory] [--variants q4_0,nf4,...] [--json]`
// Ratios, interleaved in one run, best of n: decode of each method against fewbit's own bf16 with the bytes read as the limit, by the clock
// and by processor time (which other processes disturb less; with several threads it counts their waiting too); Q4_0 against
// llama.cpp on the same file; WASM against the addon held to AVX2; quantising against llama-quantize; converting against cp; peak memory.
// `--with` adds checkpoints that exist already (AWQ and AQLM take minutes to make).
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'

const ROOT = resolve(import.meta.dirname, '..')
const CLI = join(ROOT, 'dist', 'cli.mjs')
const { values } = parseArgs({
  options: {
    model: { type: 'string', default: join(ROOT, 'models', 'stories-7m') },
    with: { type: 'string', multiple: true, default: [] },
    llama: { type: 'string' },
    imatrix: { type: 'string' },
    threads: { type: 'string', default: '1,2' },
    rounds: { type: 'string', default: '3' },
    only: { type: 'string', default: 'decode,wasm,quantize,convert,memory' },
    variants: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
})
const threads = values.threads.split(',').map(Number)
const rounds = Number(values.rounds)
const work = mkdtempSync(join(tmpdir(), 'fewbit-bench-'))

const gguf = (type) => [type, ['--method', 'gguf', '--type', type], `${type}.gguf`]
/** Name, flags of `quantize`, where it goes. */
const VARIANTS = [
  gguf('q4_0'),
  ['nf4', ['--method', 'bitsandbytes', '--bits', '4'], 'nf4'],
  ['hqq-4 g64', ['--method', 'hqq', '--bits', '4', '--group-size', '64'], 'hqq-4'],
  ['hqq-8', ['--method', 'hqq', '--bits', '8', '--group-size', '64'], 'hqq-8'],
  ['int8', ['--method', 'bitsandbytes', '--bits', '8'], 'int8'],
  ['eetq', ['--method', 'eetq'], 'eetq'],
  ...['int8', 'float8', 'int4', 'int2'].map((type) => [
    `quanto ${type}`,
    ['--method', 'quanto', '--type', type],
    `quanto-${type}`,
  ]),
  ...['q8_0', 'q6_k', 'q5_k_m', 'q4_k_m', 'q3_k_m', 'q2_k', 'iq4_xs'].map(gguf),
]
/** Types that are quantised against llama-quantize: with a matrix where one is given, the last only so. */
const QUANTISED = ['q4_0', 'q8_0', 'q2_k', 'q3_k_m', 'q4_k_m', 'q5_k_m', 'q6_k', 'iq4_xs', 'iq2_xxs']

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

const millisecondsOf = (work) => {
  const started = performance.now()
  work()
  return performance.now() - started
}

/** Best of the rounds of each contender, one after another in every round. `measure` gives figures of which more is better. */
function interleaved(contenders) {
  const best = new Map()
  for (let r = 0; r < rounds; r++) {
    for (const [name, measure] of contenders) {
      const seen = best.get(name)
      const found = measure()
      best.set(
        name,
        seen ? Object.fromEntries(Object.entries(found).map(([k, v]) => [k, Math.max(v, seen[k])])) : found,
      )
    }
  }
  return best
}

function speedOf(path, count, options = [], env = {}) {
  const r = fewbit(['bench', path, '--threads', String(count), '--repeat', '2', ...options], env)
  return {
    prefill: r.prefillTokensPerSecond,
    decode: r.decodeTokensPerSecond,
    cpu: r.decodeTokensPerCpuSecond,
    weightBytes: r.weightBytes,
  }
}

function llamaSpeed(path, count) {
  const flags = ['-m', path, '-p', '128', '-n', '64', '-t', String(count), '-r', '1', '-o', 'json']
  const rows = JSON.parse(run(join(values.llama, 'llama-bench'), flags))
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
  if (!values.json) console.log(`${what.padEnd(58)} ${String(figure).padStart(13)}  ${note}`)
}
const x = (value) => `${value.toFixed(2)} x`

/** Every variant quantised once, and what `--with` names; `aqlm...` runs with its int16 tables. */
let made
function checkpoints() {
  if (made) return made
  made = new Map([['bf16', values.model]])
  const wanted = values.variants?.split(',')
  for (const [name, flags, file] of VARIANTS) {
    if (wanted && !wanted.includes(name)) continue
    const out = join(work, file)
    fewbit(['quantize', values.model, ...flags, '-o', out])
    made.set(name, out)
  }
  for (const given of values.with) made.set(...given.split(/=(.*)/s).slice(0, 2))
  return made
}

/** How much of the gain that the bytes read allow is there: by the clock, by processor time. */
function shareOf({ decode, cpu, weightBytes }, base) {
  if (!weightBytes) return ''
  const limit = base.weightBytes / weightBytes
  const of = (ratio) => `${ratio.toFixed(2)} x bf16 ${((ratio / limit) * 100).toFixed(0)}%`
  return `limit ${limit.toFixed(2)}: ${of(decode / base.decode)}; by processor time ${of(cpu / base.cpu)}`
}

function decode() {
  for (const count of threads) {
    const contenders = [...checkpoints()].map(([name, path]) => [
      name,
      () => speedOf(path, count, name.startsWith('aqlm') ? ['--fast'] : []),
    ])
    if (values.llama) contenders.push(['llama.cpp q4_0', () => llamaSpeed(checkpoints().get('q4_0'), count)])
    const best = interleaved(contenders)
    const base = best.get('bf16')
    for (const [name, speed] of best) {
      const figure = `${speed.decode.toFixed(1)} / ${speed.prefill.toFixed(0)}`
      row(`${name}, ${count} thread(s): decode / prompt tok/s`, figure, name === 'bf16' ? '' : shareOf(speed, base))
    }
    const [ours, theirs] = [best.get('q4_0'), best.get('llama.cpp q4_0')]
    if (theirs)
      row(
        `q4_0 against llama.cpp, ${count} thread(s): decode, prompt`,
        x(ours.decode / theirs.decode),
        x(ours.prefill / theirs.prefill),
      )
  }
}

function wasm() {
  for (const count of threads) {
    const path = checkpoints().get('q4_0')
    const best = interleaved([
      ['wasm', () => speedOf(path, count, ['--device', 'wasm'])],
      ['avx2', () => speedOf(path, count, [], { FEWBIT_ISA: 'avx2' })],
    ])
    const [ours, addon] = [best.get('wasm'), best.get('avx2')]
    row(
      `q4_0 decode, WASM against the addon at AVX2, ${count} thread(s)`,
      x(ours.decode / addon.decode),
      `by processor time ${x(ours.cpu / addon.cpu)}`,
    )
  }
}

/** Whole processes on both sides, Node's start included; files are compared. */
function quantize() {
  if (!values.llama || !existsSync(join(values.llama, 'llama-quantize'))) return
  const f16 = join(work, 'f16.gguf')
  fewbit(['quantize', values.model, '--method', 'gguf', '--type', 'f16', '-o', f16])
  for (const matrix of values.imatrix ? [undefined, values.imatrix] : [undefined]) {
    for (const type of QUANTISED) {
      if (type.startsWith('iq2') && !matrix) continue
      const [ours, theirs] = [join(work, 'ours.gguf'), join(work, 'theirs.gguf')]
      const flags = matrix ? ['--imatrix', matrix] : []
      const best = interleaved([
        [
          'ours',
          () => ({
            speed:
              1 /
              millisecondsOf(() =>
                fewbit([
                  'quantize',
                  f16,
                  '--method',
                  'gguf',
                  '--type',
                  type,
                  ...flags,
                  '-o',
                  ours,
                  '--threads',
                  '2',
                  '--force',
                ]),
              ),
          }),
        ],
        [
          'theirs',
          () => ({
            speed:
              1 /
              millisecondsOf(() =>
                run(join(values.llama, 'llama-quantize'), [...flags, f16, theirs, type.toUpperCase(), '2']),
              ),
          }),
        ],
      ])
      const isEqual = spawnSync('cmp', ['-s', ours, theirs]).status === 0
      row(
        `quantising ${type}${matrix ? ' with a matrix' : ''} against llama-quantize, 2 threads`,
        x(best.get('ours').speed / best.get('theirs').speed),
        `${(1 / best.get('ours').speed / 1000).toFixed(2)} s; files ${isEqual ? 'equal' : 'DIFFER'}`,
      )
    }
  }
}

/** Seconds on the clock and of the processor, and peak memory, of a process and its children. */
function timed(command, args) {
  const { status, stderr } = spawnSync('/usr/bin/time', ['-f', '%e %U %S %M', command, ...args], { encoding: 'utf8' })
  const lines = stderr.trim().split('\n')
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} failed (${status}): ${stderr.slice(-500)}`)
  const [seconds, user, system, kilobytes] = lines.at(-1).split(' ').map(Number)
  return { seconds, processor: user + system, kilobytes }
}

/** Whole processes, the start of Node included; `cp` is followed by the fsync that fewbit ends with. Outputs are removed in between. */
function convert() {
  const { torch_dtype, dtype = torch_dtype } = JSON.parse(readFileSync(join(values.model, 'config.json'), 'utf8'))
  const type = { float16: 'f16', bfloat16: 'bf16' }[dtype] ?? 'f32'
  const size = bytesOf(values.model)
  const weights = join(values.model, 'model.safetensors')
  const [file, folder, copy, again] = ['convert.gguf', 'folder', 'copy', 'again.gguf'].map((name) => join(work, name))
  const cli = (from, to, out) => timed(process.execPath, [CLI, 'convert', from, '--to', to, '-o', out, '--json'])
  cli(values.model, `gguf:${type}`, again)
  const measured = (out, measure) => () => {
    rmSync(out, { recursive: true, force: true })
    const { seconds, processor, kilobytes } = measure()
    return { speed: size / seconds, perProcessor: size / processor, lean: 1 / kilobytes }
  }
  const best = interleaved([
    ['folder to GGUF', measured(file, () => cli(values.model, `gguf:${type}`, file))],
    ['GGUF to folder', measured(folder, () => cli(again, `float:${type}`, folder))],
    ['cp and fsync', measured(copy, () => timed('sh', ['-c', 'cp "$0" "$1" && sync "$1"', weights, copy]))],
  ])
  for (const [name, { speed, perProcessor, lean }] of best)
    row(
      `${name}, ${(size / 1e6).toFixed(0)} MB of ${type}`,
      `${(speed / 1e6).toFixed(0)} MB/s`,
      `${((speed / best.get('cp and fsync').speed) * 100).toFixed(0)}% of cp; ${(size / speed).toFixed(2)} s, processor ${(size / perProcessor).toFixed(2)} s, peak ${(1 / lean / 1024).toFixed(0)} MiB`,
    )
}

function memory() {
  for (const [name, flags] of VARIANTS) {
    const flagsOut = [...flags, '-o', join(work, 'peak.gguf'), '--force']
    const { kilobytes } = timed(process.execPath, [CLI, 'quantize', values.model, ...flagsOut])
    row(`peak memory of quantising ${name}`, `${(kilobytes / 1024).toFixed(0)} MiB`)
    rmSync(join(work, 'peak.gguf'), { recursive: true, force: true })
  }
}

const SECTIONS = { decode, wasm, quantize, convert, memory }

try {
  console.log(
    `machine: ${cpus()[0].model}, ${cpus().length} threads, Node ${process.versions.node}; ${new Date().toISOString().slice(0, 10)}; best of ${rounds}, interleaved`,
  )
  for (const name of values.only.split(',')) {
    if (!SECTIONS[name]) throw new Error(`--only: there is no section "${name}": ${Object.keys(SECTIONS).join(', ')}`)
    SECTIONS[name]()
  }
  if (values.json) console.log(JSON.stringify(results))
} finally {
  rmSync(work, { recursive: true, force: true })
}
