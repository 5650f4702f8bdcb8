// The import direction: a layer imports only from lower layers, never from its own neighbours; `node:` only where a runtime is known.
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { expect, test } from 'vitest'

const SOURCE = resolve(import.meta.dirname, '../src')

/** Bottom to top, as in docs/architecture.md. */
const LAYERS: readonly (readonly string[])[] = [
  ['core'],
  ['weights', 'checkpoint', 'text'],
  ['graph'],
  ['methods', 'backends'],
  ['convert'],
  ['models'],
  ['adapters', 'calibrate'],
  ['quantize', 'generate', 'train', 'evaluate'],
  ['api'],
  ['cli', 'server', 'web'],
]
const NODE_ALLOWED = [
  /^checkpoint\/node\//,
  /^backends\/cpu\/native\.ts$/,
  /^backends\/cpu\/workers-node\.ts$/,
  /^cli\//,
  /^server\//,
]

interface Import {
  readonly from: string
  readonly to: string
}

function sources(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((e) => e.isFile() && e.name.endsWith('.ts') && !e.name.endsWith('.test.ts'))
    .map((e) => join(e.parentPath, e.name))
}

function importsOf(file: string): Import[] {
  const text = readFileSync(file, 'utf8')
  return [...text.matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)].map((m) => ({
    from: relative(SOURCE, file),
    to: m[1],
  }))
}

function layerOf(path: string): number {
  return LAYERS.findIndex((layer) => layer.includes(path.split('/')[0]))
}

/** A sentence for an import that goes the wrong way, or undefined. */
function violation({ from, to }: Import): string | undefined {
  if (to.startsWith('node:'))
    return NODE_ALLOWED.some((p) => p.test(from))
      ? undefined
      : `${from} imports ${to}: runtimes are known only at the edge`
  if (!to.startsWith('.')) return undefined
  const target = relative(SOURCE, resolve(SOURCE, dirname(from), to))
  const [a, b] = [from.split('/')[0], target.split('/')[0]]
  if (a === b || from === 'index.ts') return undefined
  if (layerOf(from) < 0 || layerOf(target) < 0) return `${from} imports ${target}: one of them is in no layer`
  return layerOf(target) < layerOf(from)
    ? undefined
    : `${from} imports ${target}: "${a}" may only import from below itself`
}

test('every import goes to a lower layer', () => {
  const wrong = sources(SOURCE).flatMap(importsOf).map(violation).filter(Boolean)
  expect(wrong).toEqual([])
})

test('only backends/index.ts opens a backend, and no backend imports another', () => {
  const wrong = sources(SOURCE)
    .flatMap(importsOf)
    .filter(({ from, to }) => {
      const target = to.startsWith('.') ? relative(SOURCE, resolve(SOURCE, dirname(from), to)) : ''
      const backend = /^backends\/(reference|cpu|webgpu)\//.exec(target)?.[1]
      return backend && from !== 'backends/index.ts' && !from.startsWith(`backends/${backend}/`)
    })
  expect(wrong).toEqual([])
})

test('the rule itself notices an upward import', () => {
  expect(violation({ from: 'core/json.ts', to: '../weights/weight.ts' })).toContain('may only import from below')
  expect(violation({ from: 'weights/a.ts', to: 'node:fs' })).toContain('only at the edge')
})
