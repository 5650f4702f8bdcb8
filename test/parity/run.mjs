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
import { compareAwqFiles, compareAwqSearch } from './section-awq.mjs'
import { compareFamilies } from './section-families.mjs'
import { compareGgufFiles, compareGgufLogits, compareGgufQuality } from './section-gguf.mjs'
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
  quanto: comparePackages,
  'quanto-activations': compareActivations,
  eetq: comparePackages,
  'awq-files': compareAwqFiles,
  'awq-search': compareAwqSearch,
  aqlm: compareAqlm,
  'aqlm-quantiser': compareAqlmQuantiser,
  'gguf-files': compareGgufFiles,
  'gguf-quality': compareGgufQuality,
  'gguf-logits': compareGgufLogits,
  families: compareFamilies,
}

/** The sections that `--only` names, by their own names or those of their methods. */
function wantedSections(names) {
  const of = (wanted) => Object.keys(SECTIONS).filter((name) => name === wanted || name.startsWith(`${wanted}-`))
  const unknown = names.filter((wanted) => of(wanted).length === 0)
  if (unknown.length === 0) return [...new Set(names.flatMap(of))]
  console.error(`no section ${unknown.join(', ')}; there are ${Object.keys(SECTIONS).join(', ')}`)
  process.exit(2)
}

/** Random models need transformers to make them; without it the sections run on the embedded one alone. */
function models(report, seed) {
  const python = report.given('FEWBIT_PARITY_PYTHON', 'random models')
  return [embedded(values.model), ...(python ? randomModels(python, seed) : [])]
}

const wanted = wantedSections(values.only?.toLowerCase().split(',') ?? Object.keys(SECTIONS))
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
