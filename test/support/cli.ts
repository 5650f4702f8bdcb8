// Runs the built command line as a user does. The build is made once where it is missing or older than the sources.
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { giveLock, takeLock } from '../../src/checkpoint/node/lock.ts'
import { FileError } from '../../src/core/errors.ts'

export const ROOT: string = resolve(import.meta.dirname, '../..')
export const CLI: string = join(ROOT, 'dist', 'cli.mjs')

/** Builds `dist/` where a source is newer; of test files that find it old at once, one builds and the others wait. */
export async function ensureBuilt(): Promise<void> {
  const folder = join(ROOT, 'build')
  mkdirSync(folder, { recursive: true })
  const lock = join(folder, 'dist.lock')
  while (!(await takeLock(lock, 'dist').then(() => true, isHeld))) await setTimeout(100)
  try {
    buildWhereOld()
  } finally {
    await giveLock(lock)
  }
}

function isHeld(error: unknown): false {
  if (error instanceof FileError) return false
  throw error
}

/** The kernels count too, see scripts/kernel-sources.mjs. */
function buildWhereOld(): void {
  const newest = ['src', 'native']
    .flatMap((folder) => readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true }))
    .filter((e) => e.isFile() && /\.(ts|cc|h|inc)$/.test(e.name))
    .reduce((latest, e) => Math.max(latest, statSync(join(e.parentPath, e.name)).mtimeMs), 0)
  if (existsSync(CLI) && statSync(CLI).mtimeMs >= newest) return
  execFileSync(process.execPath, [join(ROOT, 'node_modules', 'tsdown', 'dist', 'run.mjs'), '--logLevel', 'error'], {
    cwd: ROOT,
  })
}

export interface CliResult {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs `fewbit ...args` in `cwd` and waits. */
export function fewbit(
  args: readonly string[],
  options: { cwd: string; input?: string; env?: Record<string, string>; timeoutMs?: number; cli?: string },
): CliResult {
  const { status, stdout, stderr } = spawnSync(process.execPath, [options.cli ?? CLI, ...args], {
    cwd: options.cwd,
    input: options.input ?? '',
    encoding: 'utf8',
    env: { ...process.env, NO_COLOR: '1', ...options.env },
    timeout: options.timeoutMs ?? 110_000,
  })
  return { status, stdout, stderr }
}

/** How long Node takes to start and end here and now. */
export function emptyProgramMs(): number {
  const started = performance.now()
  spawnSync(process.execPath, ['-e', ''])
  return performance.now() - started
}

/** The events of `--json` output. */
export function events(stdout: string): Record<string, unknown>[] {
  return stdout
    .trim()
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Record<string, unknown>)
}

/** Starts `fewbit ...args`, sends SIGINT after `ms`, and gives the exit code and how long it took to end after the signal. */
export function interrupted(
  args: readonly string[],
  cwd: string,
  ms: number,
): Promise<{ code: number | null; endedAfterMs: number }> {
  return new Promise((done) => {
    const child = spawn(process.execPath, [CLI, ...args], { cwd, stdio: 'ignore' })
    let sentAt = 0
    globalThis.setTimeout(() => {
      sentAt = performance.now()
      child.kill('SIGINT')
    }, ms)
    child.on('close', (code) => done({ code, endedAfterMs: performance.now() - sentAt }))
  })
}
