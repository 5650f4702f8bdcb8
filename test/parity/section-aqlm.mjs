// AQLM: the package only runs models, so both sides measure the file that fewbit has made.
import { given, packages, quality, quantized, TEXT } from './tools.mjs'

export function compareAqlm({ report, model, limit }) {
  const python = given('FEWBIT_PARITY_PYTHON', 'AQLM')
  if (!python) return
  report.section(
    'AQLM',
    "Files that fewbit has made from the embedded calibration chats, run by aqlm 1.1.7 in transformers 5.23.0. The package does not quantise; fewbit's quantiser is held to errors of the research code on its fixtures (`test/golden/aqlm-quantiser.test.ts`).",
    ['scheme', 'KL, fewbit', 'KL, package', 'perplexity, fewbit', 'perplexity, package'],
  )
  const schemes = ['2x8g8', '1x8g8']
  report.attempt('AQLM', () => {
    const paths = schemes.map((type) => quantized(model, ['--method', 'aqlm', '--type', type], `aqlm-${type}`))
    const expected = packages(python, {
      package: 'aqlm',
      model,
      text: TEXT,
      limit,
      variants: paths.map((path) => ({ path })),
    })
    schemes.forEach((type, i) => {
      const found = quality(paths[i], model, limit)
      const ok =
        Math.abs(found.kl / expected[i].kl - 1) <= 1e-3 &&
        Math.abs(found.perplexity / expected[i].perplexity - 1) <= 1e-3
      const figures = [found.kl, expected[i].kl, found.perplexity, expected[i].perplexity]
      report.row(ok, [type, ...figures.map((v) => v.toFixed(4))])
    })
  })
}
