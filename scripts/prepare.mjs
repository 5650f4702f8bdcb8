// Runs at `npm ci`: builds TypeScript, then the addon where a C++ compiler is found. A missing compiler is one line, never a failure.
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const built = spawnSync('npx', ['tsdown', '--logLevel', 'warn'], {
  stdio: 'inherit',
  shell: process.platform === 'win32',
})
if (built.status !== 0) process.exit(built.status ?? 1)
const addon = spawnSync(process.execPath, [fileURLToPath(new URL('build-native.mjs', import.meta.url))], {
  stdio: 'inherit',
})
process.exit(addon.status ?? 1)
