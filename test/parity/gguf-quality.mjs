// `node test/parity/gguf-quality.mjs [--types iq2_xxs,iq3_s]`: perplexity (within 0.5%) and KL divergence to the float model (within 3%) of GGUF
// files as `fewbit eval --recipe llama` and llama-perplexity find them, on the embedded model, with llama-imatrix's importance matrix.
// FEWBIT_PARITY_LLAMA: llama.cpp's bin folder with llama-imatrix and llama-perplexity.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'

const ROOT = resolve(import.meta.dirname, '../..')
const { values } = parseArgs({
  options: {
    types: { type: 'string', default: 'iq1_s,iq1_m,iq2_xxs,iq2_xs,iq2_s,iq3_xxs,iq3_s,iq4_xs,q2_k,q4_k' },
    threads: { type: 'string', default: '2' },
  },
})
const llama = process.env.FEWBIT_PARITY_LLAMA
if (!llama || !existsSync(join(llama, 'llama-perplexity'))) {
  console.log("skipped: set FEWBIT_PARITY_LLAMA to llama.cpp's bin folder")
  process.exit(0)
}
const work = mkdtempSync(join(tmpdir(), 'fewbit-quality-'))
const text = join(ROOT, 'models', 'data', 'eval.txt')
const float = join(work, 'float.gguf')
const imatrix = join(work, 'imatrix.gguf')
const logits = join(work, 'float.logits')
/** ggml quantises the activations of every product, fewbit does not: both measure the file, not each other's noise. */
const PERPLEXITY = 5e-3
const DIVERGENCE = 3e-2

function run(command, args) {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 1 << 28 })
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${error ?? stderr.slice(-600)}`)
  return `${stdout}\n${stderr}`
}
const fewbit = (...args) => run(process.execPath, [join(ROOT, 'dist', 'cli.mjs'), ...args, '--threads', values.threads])
const perplexity = (model, ...args) =>
  run(join(llama, 'llama-perplexity'), ['-m', model, '-f', text, '-c', '512', '-t', values.threads, ...args])

function figure(said, pattern) {
  const found = pattern.exec(said)
  if (!found) throw new Error(`no ${pattern} in what llama-perplexity said`)
  return Number(found[1])
}

function theirs(model) {
  return {
    perplexity: figure(perplexity(model), /Final estimate: PPL = ([\d.]+)/),
    kl: figure(perplexity(model, '--kl-divergence', '--kl-divergence-base', logits), /Mean +KLD: +([\d.]+)/),
  }
}

function ours(model) {
  const said = fewbit(
    'eval',
    model,
    '--text',
    text,
    '--baseline',
    float,
    '--recipe',
    'llama',
    '--window',
    '512',
    '--json',
  )
  return JSON.parse(said.split('\n').find((line) => line.startsWith('{"event":"result"')))
}

let failed = 0
try {
  fewbit('quantize', 'embedded', '--method', 'gguf', '--type', 'f32', '-o', float)
  run(join(llama, 'llama-imatrix'), [
    '-m',
    float,
    '-f',
    text,
    '-o',
    imatrix,
    '-c',
    '256',
    '--chunks',
    '16',
    '-t',
    values.threads,
  ])
  perplexity(float, '--kl-divergence-base', logits)
  for (const type of values.types.split(',')) {
    const file = join(work, `${type}.gguf`)
    // The type in every block: the rules of a file type would mix in others.
    const tensors = { type: 'q8_0', imatrix, token_embedding_type: 'q8_0', tensor_types: { 'blk.*': type } }
    fewbit('quantize', float, '--config', JSON.stringify({ quant_method: 'gguf', ...tensors }), '-o', file)
    const [a, b] = [ours(file), theirs(file)]
    const off = { perplexity: a.perplexity / b.perplexity - 1, kl: a.kl / b.kl - 1 }
    const ok = Math.abs(off.perplexity) <= PERPLEXITY && Math.abs(off.kl) <= DIVERGENCE
    if (!ok) failed++
    const compared = (name) =>
      `${name} ${a[name].toFixed(4)} against ${b[name].toFixed(4)} (${(100 * off[name]).toFixed(2)}%)`
    console.log(`${ok ? 'ok  ' : 'FAIL'} ${type}: ${compared('perplexity')}, ${compared('kl')}`)
    rmSync(file)
  }
} finally {
  rmSync(work, { recursive: true, force: true })
}
process.exit(failed > 0 ? 1 : 0)
