// AQLM's quantiser beside the research program, on the same blocks of ids: the embedded model, 2x8 g8, both files measured by fewbit. Long on a
// CPU: half an hour, and as much again with its tuning of blocks. FEWBIT_PARITY_AQLM: a checkout of Vahe1994/AQLM; FEWBIT_PARITY_AQLM_DEVICE:
// where it runs (cuda:0; default cpu).
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fixed } from './report.mjs'
import { quality, quantized, ROOT, run, work } from './tools.mjs'

const LENGTH = 512
/** fewbit's perplexity to that of the program without its tuning of blocks. */
const PERPLEXITY = 1.03
const SEED = 0
/** The rate is the best of 1e-5 (the program's default), 3e-5, 1e-4 and 3e-4; a sequence a step, as there are only 75. */
const TUNINGS = {
  'as fewbit, without tuning of blocks': { max_epochs: 0, batch_size: 1, lr: 0, validation: 0 },
  'with tuning of blocks': { max_epochs: 10, batch_size: 1, lr: 1e-4, validation: 8 },
}

/** The chats that come with fewbit, joined and cut as its own calibration does. */
async function calibrationBlocks({ path }) {
  const { AutoTokenizer } = await import(join(ROOT, 'dist', 'index.mjs'))
  const tokenizer = await AutoTokenizer.fromPretrained(path)
  const chats = JSON.parse(readFileSync(join(ROOT, 'models', 'data', 'calibration.json'), 'utf8'))
  const ids = chats.flatMap(({ messages }) => Array.from(tokenizer.applyChatTemplate(messages)))
  return Array.from({ length: Math.floor(ids.length / LENGTH) }, (_, b) => ids.slice(b * LENGTH, (b + 1) * LENGTH))
}

/** The program's own folder, measured. */
function theirs(python, job, context) {
  const file = join(work, 'aqlm-reference.json')
  writeFileSync(file, JSON.stringify(job))
  run(python, [join(import.meta.dirname, 'aqlm-reference.py'), file])
  return quality(job.out, context)
}

export async function compareAqlmQuantiser(context) {
  const { report, embedded } = context
  const source = report.given('FEWBIT_PARITY_AQLM', 'AQLM: quantiser')
  const python = source && report.given('FEWBIT_PARITY_PYTHON', 'AQLM: quantiser')
  if (!python) return
  report.section(
    'AQLM: quantiser',
    `The research program (Vahe1994/AQLM e79a896, settings of its README, seed ${SEED}) and fewbit on the same ${LENGTH}-token blocks of the embedded chats, 2x8 g8. Gate: perplexity within 3% of the program's without its tuning of blocks.`,
    ['program', 'KL, fewbit', 'KL, program', 'perplexity, fewbit', 'perplexity, program'],
  )
  const ids = await calibrationBlocks(embedded)
  const data = join(work, 'aqlm-blocks.json')
  writeFileSync(data, JSON.stringify(ids.map((input_ids) => ({ input_ids }))))
  const flags = ['--method', 'aqlm', '--calibration', data, ...embedded.dtypeFlags]
  const found = quality(quantized(embedded, flags, 'aqlm-ours'), context)
  const device = process.env.FEWBIT_PARITY_AQLM_DEVICE ?? 'cpu'
  for (const [name, tuning] of Object.entries(TUNINGS))
    report.attempt(`AQLM: quantiser, ${name}`, () => {
      const job = { model: embedded.path, source, ids, seed: SEED, tuning, device, out: join(work, 'aqlm-theirs') }
      const expected = theirs(python, job, context)
      const ok = tuning.max_epochs > 0 || found.perplexity <= PERPLEXITY * expected.perplexity
      report.row(ok, [name, ...[found.kl, expected.kl, found.perplexity, expected.perplexity].map(fixed)])
    })
}
