// `npm run test:parity -- [--model FOLDER] [--only hqq,gguf] [--limit TOKENS] [--seed N] [--write]`: every method beside the package that it comes
// from: files byte by byte, logits, quality, on the embedded model and on random ones of the seed. FEWBIT_PARITY_PYTHON: a Python with
// requirements.txt; FEWBIT_PARITY_HQQ: one with requirements-hqq.txt; FEWBIT_PARITY_AWQ: one with requirements-awq.txt; FEWBIT_PARITY_LLAMA:
// llama.cpp's bin folder; FEWBIT_PARITY_AQLM: a checkout of Vahe1994/AQLM; FEWBIT_PARITY_THREADS: threads (1). What is not there is skipped by name. --write: the result goes to docs/parity-methods.md.
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { embedded, randomModels } from './models.mjs'
import { writePage } from './page.mjs'
import { Report } from './report.mjs'
import { compareActivations } from './section-activations.mjs'
import { compareAqlm } from './section-aqlm.mjs'
import { compareAqlmQuantiser } from './section-aqlm-quantiser.mjs'
import { compareAwq } from './section-awq.mjs'
import { compareFamilies } from './section-families.mjs'
import { compareGguf } from './section-gguf.mjs'
import { comparePackages } from './section-packages.mjs'
import { ROOT, work } from './tools.mjs'

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: join(ROOT, 'models', 'stories-7m') },
    only: { type: 'string' },
    limit: { type: 'string' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 1e6)) },
    write: { type: 'boolean', default: false },
  },
})

const SECTIONS = {
  bitsandbytes: comparePackages,
  hqq: comparePackages,
  quanto: async (context) => {
    comparePackages(context)
    await compareActivations(context)
  },
  eetq: comparePackages,
  awq: compareAwq,
  aqlm: async (context) => {
    compareAqlm(context)
    await compareAqlmQuantiser(context)
  },
  gguf: compareGguf,
  families: compareFamilies,
}

const wanted = values.only?.toLowerCase().split(',') ?? Object.keys(SECTIONS)
const unknown = wanted.filter((name) => !(name in SECTIONS))
if (unknown.length > 0) {
  console.error(`no section ${unknown.join(', ')}; there are ${Object.keys(SECTIONS).join(', ')}`)
  process.exit(2)
}

/** Random models need transformers to make them; without it the sections run on the embedded one alone. */
function models(report, seed) {
  const python = report.given('FEWBIT_PARITY_PYTHON', 'random models')
  return [embedded(values.model), ...(python ? randomModels(python, seed) : [])]
}

const report = new Report()
const seed = Number(values.seed)
try {
  console.log(`seed ${seed}`)
  const all = models(report, seed)
  const context = {
    report,
    seed,
    limit: values.limit && Number(values.limit),
    models: all,
    embedded: all[0],
    randoms: all.slice(1),
  }
  for (const name of wanted) await SECTIONS[name]({ ...context, name })
  if (values.write) writePage(report, values)
} finally {
  rmSync(work, { recursive: true, force: true })
}
if (report.skipped.length > 0) console.log(`skipped: ${report.skipped.join(', ')}`)
console.log(report.failed ? `${report.failed} FAILED` : 'all within their gates')
process.exit(report.failed > 0 ? 1 : 0)
