// `fewbit methods`: the overview table, printed from what each method's record declares.
import { type Json, toPlain, writeJson } from '../../core/json.ts'
import { methodNamed, methods } from '../../methods/index.ts'
import type { Method } from '../../methods/types.ts'
import { command } from '../command.ts'
import { table } from '../table.ts'

/** `initial` as JSON; nothing where there is no default of its own. */
const written = (initial: Json) => (initial === null ? '' : writeJson(initial).replace(/\s+/g, ' '))

/** One method: what it makes, and every key of its config. */
function describe(method: Method): string {
  const options = Object.entries(method.options ?? {}).map(([key, { about, expected, initial }]) => [
    `--${key.replaceAll('_', '-')}`,
    written(initial),
    expected.length > LONGEST ? `${expected.slice(0, LONGEST)}...` : expected,
    about,
  ])
  return [
    `${method.name}: ${method.summary}`,
    `--bits: ${method.capabilities.bits.join(', ')}; calibration data: ${method.capabilities.calibration}`,
    '',
    table(['option', 'default', 'values', ''], options),
  ].join('\n')
}

const LONGEST = 48

/** What a record says, for --json. */
const facts = ({ name, summary, capabilities, container }: Method) => ({ name, summary, container, ...capabilities })

export default command({
  summary: 'the registered methods and what each can do',
  arguments: [{ name: '[name]', description: 'one method: its options too' }],
  examples: ['fewbit methods', 'fewbit methods hqq', 'fewbit methods --json'],
  async run({ args, output }) {
    if (args[0] !== undefined) {
      const method = methodNamed(args[0])
      const options = Object.fromEntries(
        Object.entries(method.options ?? {}).map(([key, { about, expected, initial }]) => [
          key,
          { about, expected, initial: toPlain(initial) },
        ]),
      )
      output.result({ method: { ...facts(method), options } }, describe(method))
      return
    }
    const list = methods().map(facts)
    const yes = (value: boolean) => (value ? 'yes' : 'no')
    const rows = list.map((m) => [
      m.name,
      m.bits.join(' '),
      m.calibration,
      yes(m.onTheFly),
      m.devices.join(' '),
      yes(m.serialisable),
      m.container,
      m.summary,
    ])
    output.result(
      { methods: list },
      table(['method', 'bits', 'data', 'on the fly', 'runs on', 'saves', 'files', ''], rows),
    )
  },
})
