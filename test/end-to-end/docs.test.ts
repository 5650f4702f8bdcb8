// The pages of docs/methods: every command line that one shows is run, in order, in a folder of its own.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { methods } from '../../src/methods/index.ts'
import { ensureBuilt, fewbit, ROOT } from '../support/cli.ts'

const PAGES = join(ROOT, 'docs', 'methods')
const root = mkdtempSync(join(tmpdir(), 'fewbit-docs-'))
beforeAll(ensureBuilt, 60_000)
afterAll(() => rmSync(root, { recursive: true, force: true }))

const pages = readdirSync(PAGES).filter((name) => name.endsWith('.md'))

/** Words of a line as a shell splits it: quotes hold words together, `#` begins a comment. */
function words(line: string): string[] {
  return [...line.replace(/\s#\s.*$/, '').matchAll(/'([^']*)'|"([^"]*)"|(\S+)/g)].map((m) => m[1] ?? m[2] ?? m[3])
}

test('a page belongs to a method', () => {
  for (const page of pages) expect(methods().map((m) => `${m.name}.md`)).toContain(page)
})

describe.each(pages)('%s', (page) => {
  const blocks = [...readFileSync(join(PAGES, page), 'utf8').matchAll(/```sh\n([\s\S]*?)```/g)].map((m) => m[1])
  const lines = blocks.flatMap((block) => block.trim().split('\n')).filter((line) => line.startsWith('fewbit '))
  const cwd = mkdtempSync(join(root, 'page-'))

  test('it shows commands', () => {
    expect(lines.length).toBeGreaterThan(0)
  })

  test.each(lines)('%s', { timeout: 120_000 }, (line) => {
    const { status, stderr } = fewbit(words(line).slice(1), { cwd })
    expect(stderr).not.toContain('error:')
    expect(status).toBe(0)
  })
})
