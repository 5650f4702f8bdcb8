// AQLM: the package only runs models, so it opens what fewbit has made: logits of random models and the embedded one, and the quality of the latter.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fixed, scientific } from './report.mjs'
import { drawing, idsOf, logitDifferences, quality, quantized, theirQuality, work } from './tools.mjs'

/** [scheme, whether its quality is measured: with the whole search on all embedded chats]. */
const SCHEMES = [
  ['2x8g8', true],
  ['1x8g8', false],
  ['3x5g8', false],
  ['4x6g16', false],
  ['1x9g4', false],
]
/** float32 sums in another order: of the logits' span. */
const GATE = 1e-5

/** A file of samples of ids for a model. */
export function idSamples(model, draw) {
  const file = join(work, `ids-${model.name}.json`)
  writeFileSync(file, JSON.stringify(Array.from({ length: 6 }, () => idsOf(model, draw, 64))))
  return file
}

/** What fewbit makes of every model in a scheme: the random ones without refinement, the embedded one last, where it is measured. */
function madeIn({ randoms, embedded, seed }, [scheme, measured]) {
  const draw = drawing(seed)
  const flags = ['--method', 'aqlm', '--type', scheme]
  const files = randoms.map((model) => {
    const data = ['--calibration', idSamples(model, draw), '--calibration-length', '64', '--max-epochs', '0']
    return { path: quantized(model, [...flags, ...data], `aqlm-${scheme}-${model.name}`), ids: idsOf(model, draw) }
  })
  if (!measured) return files
  const path = quantized(embedded, [...flags, ...embedded.dtypeFlags], `aqlm-${scheme}-embedded`)
  return [...files, { path, ids: idsOf(embedded, draw), measured }]
}

function compareSchemes(context, python) {
  const { report } = context
  const files = SCHEMES.flatMap((scheme) => madeIn(context, scheme).map((made) => ({ ...made, scheme: scheme[0] })))
  const far = logitDifferences(python, 'aqlm', files)
  const measured = files.filter((made) => made.measured)
  const expected = theirQuality(
    python,
    'aqlm',
    measured.map(({ path }) => path),
    context,
  )
  for (const [scheme] of SCHEMES) {
    const off = Math.max(...far.filter((_, i) => files[i].scheme === scheme))
    const cells = [scheme, `${files.filter((made) => made.scheme === scheme).length}`, scientific(off)]
    const at = measured.findIndex((made) => made.scheme === scheme)
    if (at < 0) {
      report.row(off <= GATE, cells)
      continue
    }
    const found = quality(measured[at].path, context)
    const { kl, perplexity } = expected[at]
    const same = [found.kl / kl, found.perplexity / perplexity].every((q) => Math.abs(q - 1) <= 1e-3)
    report.row(off <= GATE && same, [...cells, ...[found.kl, kl, found.perplexity, perplexity].map(fixed)])
  }
}

export function compareAqlm(context) {
  const python = context.report.given('FEWBIT_PARITY_PYTHON', 'AQLM')
  if (!python) return
  context.report.section(
    'AQLM',
    "Files that fewbit has made, run by aqlm 1.1.7 in transformers 5.23.0; quality after its whole search on the embedded chats, both sides on the same file. The package does not quantise; fewbit's quantiser is held to errors of the research code on its fixtures (`test/golden/aqlm-quantiser.test.ts`).",
    ['scheme', 'models', 'logits differ by', 'KL, fewbit', 'KL, package', 'perplexity, fewbit', 'perplexity, package'],
  )
  context.report.attempt('AQLM', () => compareSchemes(context, python))
}
