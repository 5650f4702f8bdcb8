// `fewbit demo`: the main job on the embedded model: every method, saved, loaded again, measured; a table and an HTML report.
import { command } from '../command.ts'
import { compareVariants, DEMO_VARIANTS } from '../comparison.ts'
import { RUN_OPTIONS, wholeNumber } from '../options.ts'
import { comparisonTable } from '../report/html.ts'
import { deviceOf } from '../session.ts'
import { table } from '../table.ts'

export default command({
  summary: 'quantise the embedded model with every method and compare: a table and an HTML report',
  arguments: [{ name: '[model]', description: 'a float model', default: 'embedded' }],
  options: [
    {
      flags: '-o, --out <folder>',
      description: 'where the checkpoints and the report go (replaced if it is a demo folder)',
      default: 'fewbit-demo',
    },
    {
      flags: '--windows <n>',
      description: 'windows of 512 tokens to evaluate',
      parse: wholeNumber('windows', 1),
      default: 12,
    },
    ...RUN_OPTIONS,
  ],
  examples: ['fewbit demo --windows 1 -o fewbit-demo'],
  async run({ args, options, output, signal }) {
    const { comparison, report } = await compareVariants({
      model: args[0]!,
      folder: String(options.out),
      windows: options.windows as number,
      variants: DEMO_VARIANTS,
      ...deviceOf(options),
      output,
      signal,
    })
    const { head, rows } = comparisonTable(comparison)
    output.result(
      { report, ...comparison },
      `${table(head, rows)}\n\n${comparison.tokens} predictions; ${comparison.device}, ${comparison.threads} threads; ${comparison.machine}\nReport: ${report}`,
    )
  },
})
