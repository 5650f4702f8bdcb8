// Packs build/fewbit.node as this machine's platform package, e.g. fewbit-linux-x64-gnu-0.1.0.tgz: installed beside fewbit, it spares the
// compiler. The names are those that src/backends/cpu/native.ts looks for.
import { spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const addon = join(ROOT, 'build', 'fewbit.node')
if (!existsSync(addon)) {
  console.error('There is no build/fewbit.node: run "npm run build" with a C++ compiler first')
  process.exit(1)
}
const { version, license, engines } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
const glibc = process.report.getReport().header.glibcVersionRuntime
const libc = process.platform === 'linux' ? (glibc ? 'gnu' : 'musl') : undefined
const name = ['@fewbit/' + process.platform, process.arch, libc].filter(Boolean).join('-')
const manifest = {
  name,
  version,
  description: `Native kernels of fewbit for ${name.slice(8)}`,
  license,
  engines,
  os: [process.platform],
  cpu: [process.arch],
  ...(libc && { libc: [libc === 'gnu' ? 'glibc' : 'musl'] }),
  main: 'fewbit.node',
  files: ['fewbit.node'],
}
const folder = join(ROOT, 'build', 'platform')
mkdirSync(folder, { recursive: true })
writeFileSync(join(folder, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`)
copyFileSync(addon, join(folder, 'fewbit.node'))
copyFileSync(join(ROOT, 'LICENSE'), join(folder, 'LICENSE'))
const packed = spawnSync('npm', ['pack', '--pack-destination', ROOT, folder], {
  stdio: 'inherit',
  shell: process.platform === 'win32',
})
process.exit(packed.status ?? 1)
