// Both doors to the C++ kernels, for tests that hold them equal to TypeScript: the addon where it was built, and WASM.
import { findAddon, openWasmKernels } from '../../src/backends/cpu/native.ts'
import { quantizerKernels } from '../../src/backends/cpu/quantizers.ts'
import type { QuantizerKernels } from '../../src/core/kernels.ts'

const addon = findAddon()
if ('missing' in addon) console.log(`native door skipped: ${addon.missing.join('; ')}`)

/** Name and quantiser kernels of each door that can be opened here. */
export const DOORS: readonly (readonly [string, QuantizerKernels])[] = [
  ...('missing' in addon ? [] : [['native', quantizerKernels(addon)] as const]),
  ['wasm', quantizerKernels(await openWasmKernels())],
]
