// `--force` over what is there, killed with SIGKILL before each change of a name: the old model or the new one can be opened afterwards,
// never a mixture, and the same command ends with the new one and nothing beside it.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ensureBuilt, fewbit } from '../support/cli.ts'
import { FIXTURES } from '../support/tensors.ts'
import { expectSameFiles } from '../support/tolerances.ts'

const MODEL = join(FIXTURES, 'transformers/models/llama')
const PRELOAD = `--import=${pathToFileURL(join(import.meta.dirname, '../support/kill-at.mjs'))}`

/** Makes three files of the model. */
const SHARD = '70KB'

const cwd = mkdtempSync(join(tmpdir(), 'fewbit-commit-'))
beforeAll(ensureBuilt, 60_000)
afterAll(() => rmSync(cwd, { recursive: true, force: true }))

type Files = Record<string, Uint8Array>

/** All files below `cwd`, by their paths. */
function everything(): Files {
  const files = readdirSync(cwd, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
  return Object.fromEntries(
    files
      .map((entry) => join(entry.parentPath, entry.name))
      .sort()
      .map((path) => [path, readFileSync(path)]),
  )
}

function put(path: string, bytes: Uint8Array): void {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, bytes)
}

function clear(): void {
  for (const name of readdirSync(cwd)) rmSync(join(cwd, name), { recursive: true })
}

const isSame = (a: Files, b: Files) =>
  String(Object.keys(a)) === String(Object.keys(b)) && Object.keys(a).every((k) => Buffer.compare(a[k], b[k]) === 0)

describe.each([
  ['several files', 'gguf:f16', 'gguf:bf16', 'model.gguf', ['--max-shard-size', SHARD]],
  ['a folder', 'float:f16', 'float:bf16', 'model', []],
] as const)('%s', (_, before, after, out, shards) => {
  const run = (to: string, env: Record<string, string> = {}) =>
    fewbit(['convert', MODEL, '--to', to, '-o', out, '--force', ...shards], { cwd, env })
  const killedAt = (k: number) => run(after, { KILL_AT: String(k), NODE_OPTIONS: PRELOAD })

  test('killed before every change', () => {
    clear()
    expect(run(after).status).toBe(0)
    const made = everything()
    clear()
    expect(run(before).status).toBe(0)
    const old = everything()
    const opens = readdirSync(cwd).sort()[0]
    const count = join(tmpdir(), `${cwd.split('/').at(-1)}-count`)
    expect(run(after, { KILL_COUNT: count, NODE_OPTIONS: PRELOAD }).status).toBe(0)
    const changes = Number(readFileSync(count, 'utf8'))
    rmSync(count)
    expect(isSame(everything(), made)).toBe(true)
    expect(changes).toBeGreaterThan(3)
    let taken = 0
    for (let k = 1; k <= changes; k++) {
      clear()
      for (const [path, bytes] of Object.entries(old)) put(path, bytes)
      expect(killedAt(k).status, `change ${k}`).toBeNull()
      const seen = fewbit(['inspect', opens], { cwd })
      expect(seen.status, `change ${k}: ${seen.stderr}`).toBe(0)
      const visible = Object.fromEntries(Object.entries(everything()).filter(([path]) => !path.includes('.fewbit-')))
      const isNew = isSame(visible, made)
      if (!isNew) expectSameFiles(visible, old, `change ${k}`)
      else taken++
      expect(run(after).status, `change ${k}`).toBe(0)
      expectSameFiles(everything(), made, `change ${k}`)
    }
    expect(taken).toBeGreaterThan(0)
    expect(taken).toBeLessThan(changes)
  }, 120_000)
})
