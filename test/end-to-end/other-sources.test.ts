// Kernels of other sources than the build that finds them: they are not used, and it is said what to type.
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { kernelSources } from '../../scripts/kernel-sources.mjs'
import { ensureBuilt, events, fewbit, ROOT } from '../support/cli.ts'

const ADDON = 'build/fewbit.node'
const WASM = 'native/wasm/fewbit.wasm'
const MODEL = join(ROOT, 'models/stories-7m')
const hasAddon = existsSync(join(ROOT, ADDON))
if (!hasAddon) console.log(`an addon of other sources skipped: there is no ${ADDON}`)

/** A copy of the package. */
const cwd = mkdtempSync(join(tmpdir(), 'fewbit-sources-'))
const cli = join(cwd, 'dist/cli.mjs')
afterAll(() => rmSync(cwd, { recursive: true, force: true }))
beforeAll(async () => {
  await ensureBuilt()
  for (const name of ['package.json', 'dist', WASM, ...(hasAddon ? [ADDON] : [])])
    cpSync(join(ROOT, name), join(cwd, name), { recursive: true })
  for (const name of ['models', 'node_modules']) symlinkSync(join(ROOT, name), join(cwd, name))
}, 60_000)

/** Changes the number of the sources in a binary of the copy. */
function age(name: string): void {
  const bytes = readFileSync(join(cwd, name))
  const number = (value: number) => Buffer.from(Float64Array.of(value).buffer)
  const at = bytes.indexOf(number(kernelSources()))
  expect(at, name).toBeGreaterThan(0)
  number(12345).copy(bytes, at)
  writeFileSync(join(cwd, name), bytes)
}

interface Doctor {
  readonly devices: readonly { device: string; ok: boolean; detail: string }[]
  readonly advice: readonly string[]
}
const doctor = (): Doctor => events(fewbit(['doctor', '--json'], { cwd, cli }).stdout).at(-1) as unknown as Doctor

test.skipIf(!hasAddon)('an addon: WASM runs, and doctor says why', () => {
  age(ADDON)
  const { devices, advice } = doctor()
  expect(devices.map(({ ok }) => ok)).toEqual([true, true, true])
  expect(devices[0].detail).toContain('the WASM kernels are used')
  expect(devices[0].detail).toContain(`fewbit.node" are older or newer than this build of fewbit: npm run build`)
  expect(advice[0]).toContain('npm run build')
})

test('WASM too: commands end with an error, and the hint', () => {
  age(WASM)
  expect(doctor().devices.map(({ device, ok }) => [device, ok])).toEqual([
    ['cpu', false],
    ['wasm', false],
    ['reference', true],
  ])
  const { status, stderr } = fewbit(['run', MODEL, 'Once'], { cwd, cli })
  expect(status).toBe(1)
  expect(stderr).toContain('fewbit.wasm" are older or newer than this build of fewbit')
  expect(stderr).toContain('npm run build')
})
