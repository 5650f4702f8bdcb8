// `npm run test:parity -- [--model FOLDER] [--only hqq,gguf] [--limit TOKENS] [--seed N] [--write]`: every method beside the package that it comes from: files
// byte by byte, quality, logits. FEWBIT_PARITY_PYTHON: a Python with requirements.txt; FEWBIT_PARITY_HQQ: one with requirements-hqq.txt;
// FEWBIT_PARITY_AWQ: one with requirements-awq.txt; FEWBIT_PARITY_LLAMA: llama.cpp's bin folder. What is not there is skipped by name. --write: the result goes to docs/parity-methods.md.
import { spawnSync } from 'node:child_process'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { writePage } from './page.mjs'
import { compareActivations } from './section-activations.mjs'
import { compareAqlm } from './section-aqlm.mjs'
import { compareGguf } from './section-gguf.mjs'
import { compareLogits } from './section-logits.mjs'
import { comparePackages } from './section-packages.mjs'
import { given, packages, Report, ROOT, work } from './tools.mjs'

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: join(ROOT, 'models', 'stories-7m') },
    only: { type: 'string' },
    limit: { type: 'string' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 1e6)) },
    write: { type: 'boolean', default: false },
  },
})

/** Widths that are no powers of two, with and without biases and a tied head. */
const CONFIGS = [
  {
    model_type: 'llama',
    vocab_size: 320,
    hidden_size: 192,
    intermediate_size: 448,
    num_hidden_layers: 2,
    num_attention_heads: 6,
    num_key_value_heads: 2,
    max_position_embeddings: 128,
    tie_word_embeddings: false,
  },
  {
    model_type: 'qwen2',
    vocab_size: 512,
    hidden_size: 320,
    intermediate_size: 640,
    num_hidden_layers: 1,
    num_attention_heads: 5,
    num_key_value_heads: 5,
    max_position_embeddings: 128,
    tie_word_embeddings: true,
  },
]

function randomModels(python) {
  const seed = Number(values.seed)
  const variants = CONFIGS.map((config, i) => ({ config, seed: seed + i, out: join(work, `random-${i}`) }))
  packages(python, { package: 'random', variants })
  return variants.map(({ out }, i) => ({ path: out, tag: `random${i}` }))
}

/** AutoAWQ has an interpreter and a script of its own, which says what it found. */
function awq(report) {
  const args = [join(import.meta.dirname, 'awq.mjs'), '--seed', values.seed]
  if (spawnSync(process.execPath, args, { stdio: 'inherit' }).status !== 0) report.failed++
}

const report = new Report()
const only = values.only?.toLowerCase().split(',')
const wanted = (section) => !only || only.includes(section.toLowerCase())
try {
  console.log(`seed ${values.seed}`)
  const python = given('FEWBIT_PARITY_PYTHON', 'random models')
  const randoms = python ? randomModels(python) : []
  const context = { report, model: values.model, randoms, wanted, limit: values.limit && Number(values.limit) }
  comparePackages(context)
  if (wanted('quanto')) compareActivations(context)
  if (wanted('gguf')) compareGguf(context)
  if (wanted('aqlm')) compareAqlm(context)
  if (wanted('logits')) compareLogits(context)
  if (wanted('awq')) awq(report)
  if (values.write) writePage(report, values)
} finally {
  rmSync(work, { recursive: true, force: true })
}
process.exit(report.failed > 0 ? 1 : 0)
