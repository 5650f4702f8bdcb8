// Opens a backend by name; nothing heavier than this file is loaded before it is asked for.
import { UsageError } from '../core/errors.ts'
import type { QuantizerKernels } from '../core/kernels.ts'
import type { Backend } from './types.ts'

const OPENERS: Readonly<Record<string, () => Promise<Backend>>> = {
  cpu: async () => (await import('./cpu/index.ts')).openCpu(),
  wasm: async () => (await import('./cpu/index.ts')).openWasm(),
  reference: async () => (await import('./reference/index.ts')).openReference(),
}

/** Names that `--device` takes. */
export const DEVICES: readonly string[] = Object.keys(OPENERS)

/** Opens the backend called `name`. Throws UsageError where there is none. */
export async function openBackend(name: string): Promise<Backend> {
  const open = OPENERS[name]
  if (!open) throw new UsageError(`Unknown device "${name}": there are ${DEVICES.join(', ')}`, { device: name })
  return open()
}

export interface QuantizerOptions {
  readonly threads: number
  /** Stops a job between its slices. */
  readonly signal?: AbortSignal
}

/** The compiled quantisers of a device: the addon's, or WASM's where that is asked for; `reference` has none and uses the TypeScript oracle. */
export async function openQuantizers(device: string, options: QuantizerOptions): Promise<QuantizerKernels | undefined> {
  if (device === 'reference') return undefined
  const { openKernels, openWasmKernels } = await import('./cpu/native.ts')
  const { quantizerKernels } = await import('./cpu/quantizers.ts')
  const door = device === 'wasm' ? await openWasmKernels() : (await openKernels()).door
  door.setThreads(options.threads)
  return quantizerKernels(door, options.signal)
}
