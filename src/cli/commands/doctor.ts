// `fewbit doctor`: what this machine has, which backends open and with which kernels, and what to type where something is missing.
import { defaultThreads } from '../../api/location.ts'
import { DEVICES, openBackend } from '../../backends/index.ts'
import { command } from '../command.ts'
import { machineName } from '../machine.ts'
import { PACKAGE_ROOT } from '../paths.ts'
import { table } from '../table.ts'

interface DeviceState {
  readonly device: string
  readonly ok: boolean
  readonly detail: string
}

async function stateOf(device: string): Promise<DeviceState> {
  try {
    const backend = await openBackend(device)
    return { device, ok: true, detail: [backend.describe(), ...(backend.notices ?? [])].join('; ') }
  } catch (error) {
    return { device, ok: false, detail: (error as Error).message }
  }
}

export default command({
  summary: 'what this machine has, and which kernels are used',
  examples: ['fewbit doctor', 'fewbit doctor --json'],
  async run({ output }) {
    const devices: DeviceState[] = []
    for (const device of DEVICES) devices.push(await stateOf(device))
    const cpu = devices.find((d) => d.device === 'cpu')
    const advice = cpu?.detail.includes('WASM')
      ? ['no addon that fits: run "npm run build", with a C++ compiler, for the native kernels']
      : []
    output.result(
      { machine: machineName(), threads: defaultThreads(), package: PACKAGE_ROOT, devices, advice },
      [
        `machine  ${machineName()}`,
        `threads  ${defaultThreads()} by default`,
        `package  ${PACKAGE_ROOT}`,
        table(
          ['device', '', ''],
          devices.map((d) => [d.device, d.ok ? 'ok' : 'missing', d.detail]),
        ),
        ...advice,
      ].join('\n'),
    )
  },
})
