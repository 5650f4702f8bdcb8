// `node test/parity/families.mjs [--seed N]`: fresh random models of every family, made by transformers with odd sizes, run by fewbit as
// folders and, where a file can say all of the model, as GGUF files made of them. FEWBIT_PARITY_PYTHON: a Python with requirements.txt.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { difference, tensorOf } from './files.mjs'

const ROOT = resolve(import.meta.dirname, '../..')
/** float32 against float32, sums in another order: of the logits' span. */
const GATE = 1e-5
const python = process.env.FEWBIT_PARITY_PYTHON
const { values } = parseArgs({ options: { seed: { type: 'string', default: String(Date.now() % 1e6) } } })

function run(command, args) {
  const { status, stderr, error } = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 1 << 26 })
  if (status !== 0) throw new Error(`${command}: ${error ?? stderr.slice(-600)}`)
  return stderr
}

function cli(...args) {
  return run(process.execPath, [join(ROOT, 'dist', 'cli.mjs'), ...args])
}

if (!python) {
  console.log('families: skipped, FEWBIT_PARITY_PYTHON names no Python with test/parity/requirements.txt')
  process.exit()
}
const work = mkdtempSync(join(tmpdir(), 'fewbit-families-'))
let failed = 0
try {
  run(python, [join(import.meta.dirname, 'families.py'), work, values.seed])
  console.log(`seed ${values.seed}; largest difference, of the logits' span`)
  for (const name of readdirSync(work).sort()) {
    const folder = join(work, name)
    const ids = JSON.parse(readFileSync(join(folder, 'ids.json'), 'utf8')).join(',')
    const expected = tensorOf(join(folder, 'logits.safetensors'))
    const errorOf = (path, device) => {
      const out = join(work, 'ours.safetensors')
      cli('logits', path, '--ids', ids, '--device', device, '--exact', '--force', '-o', out)
      return difference(tensorOf(out), expected)
    }
    const devices = ['reference', 'cpu', 'wasm'].map((device) => [device, errorOf(folder, device)])
    const file = join(work, `${name}.gguf`)
    const said = cli('convert', folder, '--to', 'gguf:f32', '-o', file)
    const loss = /GGUF (?:cannot|does not)|the GGUF file does not/.test(said)
    if (!loss) devices.push(['gguf', errorOf(file, 'cpu')])
    rmSync(file, { force: true })
    rmSync(join(work, 'ours.safetensors'), { force: true })
    const bad = devices.some(([, error]) => !(error < GATE))
    if (bad) failed++
    const row = devices.map(([device, error]) => `${device} ${error.toExponential(1)}`).join('  ')
    console.log(`${bad ? 'FAILED ' : ''}${name.padEnd(14)} ${row}${loss ? '  (no GGUF file says all of it)' : ''}`)
  }
} finally {
  rmSync(work, { recursive: true, force: true })
}
if (failed > 0) process.exit(1)
