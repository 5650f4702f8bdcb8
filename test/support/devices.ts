// The compiled backends that this machine has: WASM, and the addon at each instruction set.
import { LEVELS } from '../../src/backends/cpu/door.ts'
import { findAddon } from '../../src/backends/cpu/native.ts'
import { openBackend } from '../../src/backends/index.ts'
import type { Backend } from '../../src/backends/types.ts'

export interface Device {
  readonly name: string
  readonly backend: 'cpu' | 'wasm'
  readonly isa?: string
}

const addon = findAddon()

/** Every one that can be opened; what cannot is printed with the reason. */
export const COMPILED: readonly Device[] = [{ name: 'wasm', backend: 'wasm' }, ...native()]

/** Devices of the records that this machine lacks: without a compiler there is no addon. */
export const MISSING: readonly string[] = 'missing' in addon ? ['cpu'] : []

function native(): Device[] {
  if ('missing' in addon) {
    console.log(`skipped: cpu, all instruction sets: ${addon.missing.join('; ')}`)
    return []
  }
  const here = LEVELS.slice(0, addon.kernels.fb_level(1) + 1)
  for (const isa of LEVELS.slice(here.length)) console.log(`skipped: cpu ${isa}: this machine does not have it`)
  return here.map((isa) => ({ name: `cpu ${isa}`, backend: 'cpu', isa }))
}

/** Opens a device. The level is the process's: one device is used at a time. Throws where the level fell back to a lower one. */
export async function openDevice({ backend, isa }: Device): Promise<Backend> {
  process.env.FEWBIT_ISA = isa ?? ''
  const opened = await openBackend(backend)
  if (isa && !('missing' in addon) && LEVELS[addon.kernels.fb_level(0)] !== isa)
    throw new Error(`The ${isa} kernels are not used: ${opened.notices?.join('; ')}`)
  return opened
}
