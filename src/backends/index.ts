// Opens a backend by name; nothing heavier than this file is loaded before it is asked for.
import { UsageError } from '../core/errors.ts'
import type { Backend } from './types.ts'

const OPENERS: Readonly<Record<string, () => Promise<Backend>>> = {
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
