// Finds the kernels on this machine: the local build, the platform's package, or the WASM module that comes with fewbit.
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { BugError, FewbitError, UsageError } from '../../core/errors.ts'
import { checkSources, complete, type Door, type Kernel, LEVELS } from './door.ts'
import { openWasm } from './wasm.ts'
import { startNodeWorker } from './workers-node.ts'

interface Addon {
  readonly kernels: Record<string, Kernel>
  write(pointer: number, data: ArrayBufferView): void
  read(pointer: number, into: ArrayBufferView): void
}

export interface Opened {
  readonly door: Door
  /** What was tried before this door, and why it did not open. */
  readonly missing: readonly string[]
  /** Instruction sets that this machine has but whose kernels failed their self-test. */
  readonly failed: readonly string[]
}

const require = createRequire(import.meta.url)
const WASM_FILE = join('native', 'wasm', 'fewbit.wasm')

/** The folder of the package, from the source tree and from the built package alike. */
function packageRoot(): string {
  const start = dirname(fileURLToPath(import.meta.url))
  for (let folder = start; ; folder = dirname(folder)) {
    if (existsSync(join(folder, WASM_FILE))) return folder
    if (folder === dirname(folder)) throw new BugError(`No folder above "${start}" holds ${WASM_FILE}`)
  }
}

/** `linux-x64-gnu`, `darwin-arm64` ...: the platform packages are named so. */
export function platformName(): string {
  const base = `${process.platform}-${process.arch}`
  if (process.platform !== 'linux') return base
  const report = process.report?.getReport() as { header?: { glibcVersionRuntime?: string } } | undefined
  return `${base}-${report?.header?.glibcVersionRuntime ? 'gnu' : 'musl'}`
}

function addonDoor(addon: Addon, origin: string): Door {
  checkSources(addon.kernels, origin)
  const kernels = complete(addon.kernels, origin)
  return {
    kind: 'native',
    origin,
    kernels,
    write: addon.write,
    read: addon.read,
    setThreads: (count) => kernels.fb_set_threads(count),
  }
}

/** The addon, or why there is none. */
export function findAddon(): Door | { readonly missing: readonly string[] } {
  const missing: string[] = []
  const candidates = [join(packageRoot(), 'build', 'fewbit.node'), `@fewbit/${platformName()}`]
  for (const candidate of candidates) {
    try {
      const path = require.resolve(candidate)
      return addonDoor(require(path) as Addon, path)
    } catch (error) {
      const [firstLine] = String((error as Error).message).split('\n')
      const hint = error instanceof FewbitError ? `: ${error.hint}` : ''
      missing.push(`${candidate}: ${firstLine}${hint}`)
    }
  }
  return { missing }
}

/** The level that FEWBIT_ISA names, else the highest there is. Throws UsageError. */
function askedLevel(): number {
  const asked = process.env.FEWBIT_ISA
  if (!asked) return LEVELS.length - 1
  const level = (LEVELS as readonly string[]).indexOf(asked)
  if (level >= 0) return level
  throw new UsageError(`FEWBIT_ISA is "${asked}": there are ${LEVELS.join(', ')}`, { actual: asked })
}

/** Opens the addon where there is one, else the WASM kernels; lowers the instruction set to FEWBIT_ISA. */
export async function openKernels(): Promise<Opened> {
  const found = findAddon()
  if ('missing' in found) return { door: await openWasmKernels(), missing: found.missing, failed: [] }
  const failed: string[] = []
  let level = found.kernels.fb_set_level(askedLevel())
  while (level > 0 && !passes(found, level)) failed.push(LEVELS[level--])
  found.kernels.fb_set_level(level)
  return { door: found, missing: [], failed }
}

const tested = new Map<number, boolean>()

/** Whether the kernels of a level agree with the baseline's; tested once a process. */
function passes(door: Door, level: number): boolean {
  let result = tested.get(level)
  if (result === undefined) tested.set(level, (result = door.kernels.fb_self_test(level) === 0))
  return result
}

let wasmDoor: Promise<Door> | undefined

/** Opens the WASM kernels, with Node's workers as threads; once a process, because workers and memory last as long as it. */
export function openWasmKernels(): Promise<Door> {
  wasmDoor ??= (async () => {
    const origin = join(packageRoot(), WASM_FILE)
    return openWasm(await readFile(origin), { origin, startWorker: startNodeWorker })
  })()
  return wasmDoor
}
