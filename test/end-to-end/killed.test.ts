// Runs of `fewbit quantize` killed with SIGKILL at moments spread over their work: nothing appears under the final name, and the same
// command goes on and ends in the bytes of a run that nobody killed.
import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { writeJson } from '../../src/core/json.ts'
import { blockMethod } from '../../src/methods/calibration.ts'
import { methods } from '../../src/methods/index.ts'
import type { Method } from '../../src/methods/types.ts'
import { CLI, ensureBuilt, fewbit, ROOT } from '../support/cli.ts'
import { seeded, seedOf } from '../support/random.ts'
import { FIXTURES } from '../support/tensors.ts'
import { expectSameFiles } from '../support/tolerances.ts'
import { isFull, variantsOf } from '../support/walk.ts'

const quantisers = methods().filter((method) => method.scope === 'tensor' || method.block)
/** 40 kills over the runs of all methods; four in the quick walk. */
const KILLS = isFull ? Math.ceil(40 / quantisers.length) : 1
const walked = isFull ? quantisers : quantisers.filter((method) => method.scope === 'tensor').slice(0, 4)
if (!isFull) console.log('skipped: 36 of 40 kills: only the full walk (FEWBIT_CONFORMANCE=full)')

const cwd = mkdtempSync(join(tmpdir(), 'fewbit-killed-'))
beforeAll(ensureBuilt, 60_000)
afterAll(() => rmSync(cwd, { recursive: true, force: true }))

/** A search over calibration data, on a loaded machine. */
const TIMEOUT_MS = 600_000

/** 4 bits where a method has them. Methods that need data get a small model: their work is long enough. */
function argumentsOf(method: Method, out: string): string[] {
  const variant = variantsOf(method).find(({ bits }) => bits === 4) ?? variantsOf(method)[0]
  const config = method.fromFlags(variant.options)
  const base = ['--method', method.name, '--config', writeJson(config), '-o', out, '--json', '--threads', '2']
  if (!blockMethod(method, method.parseConfig(config))) return ['quantize', join(ROOT, 'models/stories-7m'), ...base]
  const data = join(cwd, 'data.jsonl')
  const random = seeded(3)
  const line = () => JSON.stringify({ input_ids: Array.from({ length: 32 }, () => Math.floor(random() * 90)) })
  writeFileSync(data, `${Array.from({ length: 16 }, line).join('\n')}\n`)
  const model = join(FIXTURES, 'transformers/models/llama3-rope')
  return ['quantize', model, ...base, '--calibration', data, '--calibration-length', '32']
}

/** Kills the run after `lines` lines of its output and `ms` more. Resolves to whether it was killed before it ended. */
function killed(args: readonly string[], lines: number, ms: number): Promise<boolean> {
  return new Promise((done) => {
    const child = spawn(process.execPath, [CLI, ...args], { cwd, stdio: ['ignore', 'pipe', 'ignore'] })
    let seen = 0
    const shoot = () => setTimeout(() => child.kill('SIGKILL'), ms)
    if (lines === 0) shoot()
    child.stdout.on('data', (text: Buffer) => {
      const before = seen
      seen += text.toString().split('\n').length - 1
      if (before < lines && seen >= lines) shoot()
    })
    child.on('close', (_code, signal) => done(signal === 'SIGKILL'))
  })
}

function filesOf(path: string): Record<string, Uint8Array> {
  if (path.endsWith('.gguf')) return { gguf: readFileSync(path) }
  return Object.fromEntries(readdirSync(path).map((name) => [name, readFileSync(join(path, name))]))
}

test.each(walked.map((method) => [method.name, method] as const))(
  '%s',
  async (name, method) => {
    const suffix = method.container === 'gguf' ? '.gguf' : ''
    const whole = fewbit(argumentsOf(method, `${name}-whole${suffix}`), { cwd, timeoutMs: TIMEOUT_MS })
    expect(whole.status, whole.stdout).toBe(0)
    const expected = filesOf(join(cwd, `${name}-whole${suffix}`))
    const events = whole.stdout.trim().split('\n').length
    const out = `${name}-killed${suffix}`
    const random = seeded(seedOf(name))
    let kills = 0
    for (let attempt = 0; kills < KILLS && attempt < 4 * KILLS; attempt++) {
      const args = argumentsOf(method, out)
      if (await killed(args, Math.floor(random() * events), random() * 40)) {
        kills++
        // The kill may fall between the rename and the end of the process: what is there is then whole.
        if (!existsSync(join(cwd, out))) continue
      }
      expectSameFiles(filesOf(join(cwd, out)), expected, `after ${kills} kills`)
      rmSync(join(cwd, out), { recursive: true })
    }
    expect(kills).toBe(KILLS)
    const last = fewbit(argumentsOf(method, out), { cwd, timeoutMs: TIMEOUT_MS })
    expect(last.status, last.stdout).toBe(0)
    expectSameFiles(filesOf(join(cwd, out)), expected, `after ${kills} kills`)
    expect(readdirSync(cwd).filter((entry) => entry.startsWith(out))).toEqual([out])
  },
  3 * TIMEOUT_MS,
)
