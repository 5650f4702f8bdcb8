// The two ways into the C++ kernels behind one interface: the N-API addon (native.ts) and the WASM module (wasm.ts).
// Memory belongs to C++: pointers are numbers, data is copied in and out.
import { BugError, FileError, OutOfMemoryError } from '../../core/errors.ts'

/** An export of native/kernels/exports.h: numbers in, a number out. */
export type Kernel = (...args: number[]) => number

export interface Door {
  readonly kind: 'native' | 'wasm'
  /** File that the kernels came from. */
  readonly origin: string
  readonly kernels: Readonly<Record<string, Kernel>>
  /** Copies `data` to the block at `pointer`. */
  write(pointer: number, data: ArrayBufferView): void
  /** Fills `into` from the block at `pointer`. */
  read(pointer: number, into: ArrayBufferView): void
  /** Lets regions use up to `count` threads, starting what is missing; returns how many they will use. */
  setThreads(count: number): number
}

/** The instruction sets that kernels are compiled for, by level (native/kernels/cpu.h). */
export const LEVELS = ['scalar', 'avx2', 'avx512'] as const

/** What scripts/kernel-sources.mjs gave when this was built; absent where the TypeScript runs as it stands. */
declare const FEWBIT_KERNEL_SOURCES: number | undefined
const SOURCES = typeof FEWBIT_KERNEL_SOURCES === 'undefined' ? undefined : FEWBIT_KERNEL_SOURCES

/** Throws FileError where the kernels in `origin` were not compiled from the sources that this was built with. */
export function checkSources({ fb_sources }: Record<string, Kernel>, origin: string, expected = SOURCES): void {
  const actual = fb_sources?.()
  if (expected === undefined || actual === expected) return
  throw new FileError(`The kernels in "${origin}" are older or newer than this build of fewbit`, {
    file: origin,
    expected,
    actual,
    hint: 'npm run build',
  })
}

/** For a kernel that the binary lacks: it is older than this source, or the name is wrong. */
export function missingKernel(origin: string, kernel: string): never {
  throw new BugError(`The kernels in "${origin}" have no "${kernel}"`, { kernel, hint: 'npm run build' })
}

/** `kernels`, where asking for an export that is not there is a BugError instead of undefined. */
export function complete(kernels: Record<string, Kernel>, origin: string): Record<string, Kernel> {
  const get = (_: object, name: string | symbol) =>
    String(name).startsWith('fb_') && missingKernel(origin, String(name))
  return Object.setPrototypeOf(kernels, new Proxy({}, { get }))
}

/** A new block of `bytes`, 64-byte aligned, not cleared. Throws OutOfMemoryError. */
export function allocate(door: Door, bytes: number): number {
  const pointer = door.kernels.fb_alloc(bytes)
  if (pointer !== 0) return pointer
  const held = door.kernels.fb_allocated()
  throw new OutOfMemoryError(`Cannot allocate ${bytes} bytes for the ${door.kind} kernels: they hold ${held} already`, {
    bytes,
    held,
    hint: door.kind === 'wasm' ? 'WASM can address 4 GiB: use --device cpu with the native addon' : undefined,
  })
}

/** A new block with the bytes of `data`. */
export function allocateFrom(door: Door, data: ArrayBufferView): number {
  const pointer = allocate(door, data.byteLength)
  door.write(pointer, data)
  return pointer
}

/** Place of every export in the table, by name: what fb_job takes. */
export function places(door: Door): ReadonlyMap<string, number> {
  const bytes = new Uint8Array(door.kernels.fb_names(1))
  door.read(door.kernels.fb_names(0), bytes)
  return new Map(
    new TextDecoder()
      .decode(bytes)
      .trimEnd()
      .split(' ')
      .map((name, place) => [name, place]),
  )
}
