// The `cpu` and `wasm` backends: the same kernels through two doors.
import type { Backend } from '../types.ts'
import { type Door, LEVELS } from './door.ts'
import { compileOnDoor } from './executable.ts'
import { openKernels, openWasmKernels } from './native.ts'

function backendOn(door: Door, name: 'cpu' | 'wasm', notices: readonly string[]): Backend {
  const level = door.kind === 'wasm' ? 'WASM SIMD' : LEVELS[door.kernels.fb_level(0)]
  return {
    name,
    notices,
    describe: () => `${name} (${door.kind === 'native' ? 'native addon' : 'WASM module'}, ${level})`,
    compile: (graph, load, options) => compileOnDoor(door, graph, load, options),
  }
}

/** The addon where there is one, else the WASM kernels with a notice that says why. */
export async function openCpu(): Promise<Backend> {
  const { door, missing, failed } = await openKernels()
  const notices = failed.map((isa) => `the ${isa} kernels failed their self-test on this machine and are not used`)
  if (door.kind === 'wasm') notices.push(`no native addon, the WASM kernels are used (${missing.join('; ')})`)
  return backendOn(door, 'cpu', notices)
}

/** The WASM kernels, whether there is an addon or not. */
export async function openWasm(): Promise<Backend> {
  return backendOn(await openWasmKernels(), 'wasm', [])
}
