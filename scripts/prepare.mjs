// Runs at `npm ci`: builds TypeScript, then the addon where a C++ compiler is found. A missing compiler is one line, never a failure.
import { spawnSync } from 'node:child_process'

const built = spawnSync('npx', ['tsdown', '--logLevel', 'warn'], {
  stdio: 'inherit',
  shell: process.platform === 'win32',
})
if (built.status !== 0) process.exit(built.status ?? 1)
