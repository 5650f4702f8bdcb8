// The C++ kernels, for tests that hold them equal to TypeScript: the addon at each instruction set that this machine has, and WASM.
import { LEVELS } from '../../src/backends/cpu/door.ts'
import { findAddon, openWasmKernels } from '../../src/backends/cpu/native.ts'
import { quantizerKernels } from '../../src/backends/cpu/quantizers.ts'
import type { QuantizerKernels } from '../../src/core/kernels.ts'

/** Name and quantiser kernels of each that can be opened here. One is used at a time: the level is the process's. */
export const DOORS: readonly (readonly [string, QuantizerKernels])[] = [
  ...native(),
  ['wasm', quantizerKernels(await openWasmKernels())],
]

function native(): [string, QuantizerKernels][] {
  const addon = findAddon()
  if ('missing' in addon) {
    console.log(`native door skipped: ${addon.missing.join('; ')}`)
    return []
  }
  const kernels = quantizerKernels(addon)
  return LEVELS.slice(0, addon.kernels.fb_level(1) + 1).map((isa, level) => [
    `native, ${isa}`,
    {
      run(...job) {
        addon.kernels.fb_set_level(level)
        return kernels.run(...job)
      },
      toFloat32(tensor) {
        addon.kernels.fb_set_level(level)
        return kernels.toFloat32(tensor)
      },
    },
  ])
}
