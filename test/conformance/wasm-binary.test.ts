// The committed WASM binary is of the sources that lie here; where its script's compiler is present, it is what the script builds.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { kernelSources } from '../../scripts/kernel-sources.mjs'
import { openWasmKernels } from '../../src/backends/cpu/native.ts'

const ROOT = resolve(import.meta.dirname, '../..')
const hasCompiler = spawnSync('clang++-19', ['--version']).status === 0
if (!hasCompiler) console.log('wasm binary skipped: no clang++-19 here')

test.skipIf(!hasCompiler)('native/wasm/fewbit.wasm is up to date with native/', () => {
  const folder = mkdtempSync(join(tmpdir(), 'fewbit-wasm-'))
  try {
    const built = spawnSync('bash', [join(ROOT, 'native/wasm/build.sh'), join(folder, 'fewbit.wasm')], {
      encoding: 'utf8',
    })
    expect(built.status, built.stderr).toBe(0)
    const committed = readFileSync(join(ROOT, 'native/wasm/fewbit.wasm'))
    expect(readFileSync(join(folder, 'fewbit.wasm')).equals(committed), 'run native/wasm/build.sh').toBe(true)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
})

test('native/wasm/fewbit.wasm knows the sources that lie here', async () => {
  const { kernels } = await openWasmKernels()
  expect(kernels.fb_sources(), 'run native/wasm/build.sh').toBe(kernelSources())
})
