// `npm run test:parity -- [--model FOLDER]`: files written by fewbit are opened by the references, and the logits compared.
// FEWBIT_PARITY_PYTHON: a Python with requirements.txt; FEWBIT_PARITY_HQQ: one with requirements-hqq.txt; FEWBIT_PARITY_LLAMA: llama.cpp's bin
// folder. What is not there is skipped with its reason.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'

const ROOT = resolve(import.meta.dirname, '../..')
const { values } = parseArgs({ options: { model: { type: 'string', default: join(ROOT, 'models', 'stories-7m') } } })
const work = mkdtempSync(join(tmpdir(), 'fewbit-parity-'))
const IDS = '5,100,7,42,900,13,77,256,31,8,1200,64'
let failed = 0

function run(command, args, env = {}) {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    encoding: 'utf8',
    env: { ...process.env, ...env },
    maxBuffer: 1 << 26,
  })
  if (status !== 0) throw new Error(`${command}: ${error ?? stderr.slice(-600)}`)
  return stdout
}

/** The float32 values of the one tensor of a safetensors file. */
function tensorOf(file) {
  const bytes = readFileSync(file)
  const length = Number(bytes.readBigUInt64LE(0))
  return new Float32Array(new Uint8Array(bytes.subarray(8 + length)).buffer)
}

/** Largest difference relative to the span of the expected values. */
function difference(ours, theirs) {
  if (ours.length !== theirs.length) throw new Error(`${ours.length} logits against ${theirs.length}`)
  let [largest, low, high] = [0, Infinity, -Infinity]
  theirs.forEach((v, i) => {
    largest = Math.max(largest, Math.abs(v - ours[i]))
    low = Math.min(low, v)
    high = Math.max(high, v)
  })
  return largest / (high - low)
}

function quantized(flags, name) {
  const out = join(work, name)
  run(process.execPath, [join(ROOT, 'dist', 'cli.mjs'), 'quantize', values.model, ...flags, '-o', out])
  return out
}

function ourLogits(path) {
  const out = join(work, 'ours.safetensors')
  run(process.execPath, [join(ROOT, 'dist', 'cli.mjs'), 'logits', path, '--ids', IDS, '--exact', '--force', '-o', out])
  return tensorOf(out)
}

// [name, flags, file, interpreter, gate]: LLM.int8's activation codes round differently with the reference's misprinted constant.
const CASES = [
  ['bitsandbytes NF4', ['--method', 'bitsandbytes', '--bits', '4'], 'nf4', 'FEWBIT_PARITY_PYTHON', 1e-4],
  ['bitsandbytes LLM.int8', ['--method', 'bitsandbytes', '--bits', '8'], 'int8', 'FEWBIT_PARITY_PYTHON', 2e-2],
  ['HQQ 4 bit', ['--method', 'hqq', '--bits', '4', '--group-size', '64'], 'hqq4', 'FEWBIT_PARITY_HQQ', 1e-4],
  ['HQQ 3 bit', ['--method', 'hqq', '--bits', '3', '--group-size', '64'], 'hqq3', 'FEWBIT_PARITY_HQQ', 1e-4],
  [
    'GGUF Q4_K_M in transformers',
    ['--method', 'gguf', '--type', 'q4_k_m'],
    'q4_k_m.gguf',
    'FEWBIT_PARITY_PYTHON',
    1e-4,
  ],
]

try {
  for (const [name, flags, file, variable, gate] of CASES) {
    const python = process.env[variable]
    if (!python) {
      console.log(`skip ${name}: ${variable} is not set`)
      continue
    }
    try {
      const path = quantized(flags, file)
      const out = join(work, 'theirs.safetensors')
      run(python, [join(import.meta.dirname, 'logits.py'), path, IDS, out])
      const d = difference(ourLogits(path), tensorOf(out))
      const ok = d <= gate
      if (!ok) failed++
      console.log(
        `${ok ? 'ok  ' : 'FAIL'} ${name}: largest difference ${d.toExponential(2)} of the span (gate ${gate})`,
      )
    } catch (error) {
      failed++
      console.log(`FAIL ${name}: ${error.message}`)
    }
  }
  const llama = process.env.FEWBIT_PARITY_LLAMA
  if (!llama) console.log('skip llama.cpp: FEWBIT_PARITY_LLAMA is not set')
  else {
    const path = quantized(['--method', 'gguf', '--type', 'q8_0'], 'q8_0.gguf')
    const theirs = run(join(llama, 'llama-completion'), [
      '-m',
      path,
      '-p',
      'Once upon a time',
      '-n',
      '16',
      '--temp',
      '0',
      '-no-cnv',
      '-t',
      '2',
      '--no-display-prompt',
    ]).trim()
    const ours = run(process.execPath, [
      join(ROOT, 'dist', 'cli.mjs'),
      'run',
      path,
      'Once upon a time',
      '--temperature',
      '0',
      '--max-new-tokens',
      '16',
    ])
      .replace('Once upon a time', '')
      .trim()
    const ok = ours === theirs
    if (!ok) failed++
    console.log(
      `${ok ? 'ok  ' : 'FAIL'} llama.cpp continues a Q8_0 file alike: ${JSON.stringify(theirs)}${ok ? '' : ` against ${JSON.stringify(ours)}`}`,
    )
  }
} finally {
  rmSync(work, { recursive: true, force: true })
}
process.exit(failed > 0 ? 1 : 0)
