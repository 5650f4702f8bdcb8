// What the README claims: its API block runs as written, and its table of methods is what the records declare.
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { ensureBuilt, ROOT } from '../support/cli.ts'

beforeAll(ensureBuilt, 60_000)

test('the API block runs as written and saves what it says', { timeout: 120_000 }, () => {
  const [, block] = /```ts\n([\s\S]*?)```/.exec(readFileSync(join(ROOT, 'README.md'), 'utf8')) as RegExpExecArray
  const folder = mkdtempSync(join(tmpdir(), 'fewbit-readme-'))
  try {
    symlinkSync(join(ROOT, 'models'), join(folder, 'models'))
    const script = join(folder, 'example.mjs')
    writeFileSync(script, block.replace("'fewbit'", JSON.stringify(join(ROOT, 'dist', 'index.mjs'))))
    const { status, stdout, stderr } = spawnSync(process.execPath, [script], { cwd: folder, encoding: 'utf8' })
    expect(stderr).toBe('')
    expect(status).toBe(0)
    expect(stdout.length).toBeGreaterThan(20)
    const config = JSON.parse(readFileSync(join(folder, 'stories-hqq', 'config.json'), 'utf8'))
    expect(config.quantization_config.quant_method).toBe('hqq')
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
})

test('the table of methods is what the records declare', () => {
  expect(() => execFileSync(process.execPath, [join(ROOT, 'scripts', 'readme.mjs'), '--check'])).not.toThrow()
})
