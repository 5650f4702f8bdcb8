// `fewbit methods`: the overview table, printed from what each method's record declares.
import { methods } from '../../methods/index.ts'
import { command } from '../command.ts'
import { table } from '../table.ts'

export default command({
  summary: 'the registered methods and what each can do',
  examples: ['fewbit methods', 'fewbit methods --json'],
  async run({ output }) {
    const list = methods().map(({ name, summary, capabilities, container }) => ({
      name,
      summary,
      container,
      ...capabilities,
    }))
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
