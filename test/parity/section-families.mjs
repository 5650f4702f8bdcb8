// Fresh random models of every family, made by transformers with odd sizes, run by fewbit as folders and, where a file can say all of the
// model, as GGUF files made of them.
import { readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { difference, tensorOf } from './files.mjs'
import { scientific } from './report.mjs'
import { fewbit, ourLogits, run, work } from './tools.mjs'

/** float32 against float32, sums in another order: of the logits' span. */
const GATE = 1e-5
/** The warning of `convert` where a GGUF file lacks something that the model has. */
const LOSS = /GGUF (?:cannot|does not)|the GGUF file does not/
const DEVICES = ['reference', 'cpu', 'wasm']

/** The difference on each device, and of the GGUF file or why there is none. */
function compareFamily({ report }, folders, name) {
  const folder = join(folders, name)
  const ids = JSON.parse(readFileSync(join(folder, 'ids.json'), 'utf8'))
  const expected = tensorOf(join(folder, 'logits.safetensors'))
  const found = DEVICES.map((device) => difference(ourLogits(folder, ids, device), expected))
  const file = join(work, 'family.gguf')
  const lines = fewbit('convert', folder, '--to', 'gguf:f32', '--force', '-o', file, '--json').trim().split('\n')
  const lost = lines
    .map((line) => JSON.parse(line))
    .find(({ event, message }) => event === 'warning' && LOSS.test(message))
  if (!lost) found.push(difference(ourLogits(file, ids), expected))
  rmSync(file)
  report.row(
    found.every((d) => d <= GATE),
    [name, ...found.map(scientific), ...(lost ? ['a file cannot say all of it'] : [])],
  )
}

export function compareFamilies(context) {
  const { report, seed } = context
  const python = report.given('FEWBIT_PARITY_PYTHON', 'Families')
  if (!python) return
  report.section(
    'Families',
    "Random models with widths, heads and vocabularies that nothing divides, float32 logits of 37 tokens beside transformers 5.23.0: largest difference, of the logits' span. Gate: 1e-5. (GGUF files of OPT have an architecture of our own.)",
    ['model', ...DEVICES, 'gguf on cpu'],
  )
  report.attempt('Families', () => {
    const folders = join(work, 'families')
    run(python, [join(import.meta.dirname, 'families.py'), folders, String(seed)])
    for (const name of readdirSync(folders).sort()) report.attempt(name, () => compareFamily(context, folders, name))
  })
}
