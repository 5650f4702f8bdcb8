// One number for everything under native/ that is compiled. It is built into the addon and the WASM binary (FB_SOURCES) and into the
// TypeScript that calls them (FEWBIT_KERNEL_SOURCES): kernels of other sources are refused (src/backends/cpu/door.ts).
// Run alone, prints it.
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join, relative, sep } from 'node:path'
import { fileURLToPath } from 'node:url'

const NATIVE = fileURLToPath(new URL('../native', import.meta.url))

/** The first 48 bits of a hash: a whole number that kernels and TypeScript can hold. Line ends do not count. */
export function kernelSources() {
  const hash = createHash('sha256')
  const files = readdirSync(NATIVE, { recursive: true, withFileTypes: true })
    .filter((e) => e.isFile() && /\.(cc|h|inc)$/.test(e.name))
    .map((e) => relative(NATIVE, join(e.parentPath, e.name)).split(sep).join('/'))
    .sort()
  for (const file of files) hash.update(file).update(readFileSync(join(NATIVE, file), 'utf8').replaceAll('\r', ''))
  return Number.parseInt(hash.digest('hex').slice(0, 12), 16)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) console.log(kernelSources())
