// Importing the library must stay cheap: what it reaches by static imports is the registry and its methods, nothing that runs models.
import { readFileSync } from 'node:fs'
import { dirname, relative, resolve } from 'node:path'
import { expect, test } from 'vitest'

const SOURCE = resolve(import.meta.dirname, '..')

/** Files that `file` pulls in when it is imported; types cost nothing. */
function reach(file: string, seen = new Set<string>()): Set<string> {
  if (seen.has(file)) return seen
  seen.add(file)
  const text = readFileSync(file, 'utf8')
  const statements = text.matchAll(/^(?:import|export)\s(?!type\b)[^;]*?from '(\.[^']+)'/gms)
  for (const [statement, path] of statements)
    if (!/^(?:import|export) type /.test(statement)) reach(resolve(dirname(file), path), seen)
  return seen
}

test('import "fewbit" loads no backend, tokenizer, graph or container', () => {
  const files = [...reach(resolve(SOURCE, 'index.ts'))].map((file) => relative(SOURCE, file))
  // What plans by the graph only walks over its nodes.
  const folders = files.filter((file) => !/^graph\/(cut|types)\.ts$/.test(file)).map((file) => file.split('/')[0])
  const heavy = ['backends', 'text', 'graph', 'models', 'generate', 'evaluate', 'quantize', 'convert', 'cli']
  expect([...new Set(folders)].filter((folder) => heavy.includes(folder))).toEqual([])
  expect(folders).toContain('methods')
})
