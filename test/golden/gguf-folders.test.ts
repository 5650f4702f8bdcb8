// Whole files of the reference converter: a model folder becomes a GGUF file with the reference's sha256, tokenizer included.
import { createHash } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { localFiles } from '../../src/checkpoint/node/files.ts'
import { outputStore } from '../../src/checkpoint/node/output.ts'
import { openCheckpoint } from '../../src/checkpoint/open.ts'
import { methodNamed } from '../../src/methods/index.ts'
import { MODEL_FAMILIES } from '../../src/models/auto.ts'
import { modelSource } from '../../src/models/source.ts'
import { quantizeModel } from '../../src/quantize/quantize.ts'
import { fixture } from '../support/fixtures.ts'

const FOLDER = fixture('gguf/models')
const { hf } = JSON.parse(await readFile(join(FOLDER, 'models.json'), 'utf8')) as {
  hf: Record<string, { tokenizer: string; pre: string; outtypes: Record<string, { sha256: string }> }>
}

/** Folders whose family is registered. */
async function isKnown(name: string): Promise<boolean> {
  const config = JSON.parse(await readFile(join(FOLDER, 'hf', name, 'config.json'), 'utf8'))
  return MODEL_FAMILIES.some((family) => family.modelTypes.includes(config.model_type))
}

const known: string[] = []
for (const name of Object.keys(hf)) if (await isKnown(name)) known.push(name)
const cases = known.flatMap((name) => Object.keys(hf[name].outtypes).map((type) => [name, type] as const))

let out: string
beforeAll(async () => {
  out = await mkdtemp(join(tmpdir(), 'fewbit-gguf-'))
})
afterAll(() => rm(out, { recursive: true, force: true }))

test('the llama, mistral and qwen folders are among them', () => {
  expect(known).toEqual(expect.arrayContaining(['llama', 'llama3-rope', 'mistral', 'qwen2', 'qwen3']))
})

test.each(cases)('%s as %s', async (name, type) => {
  const path = join(out, `${name}-${type}.gguf`)
  const source = await modelSource(await openCheckpoint(await localFiles(join(FOLDER, 'hf', name))))
  const method = methodNamed('gguf')
  const store = await outputStore(path, { force: false, single: true })
  // The tiny vocabularies are in no table: their name is given, as it was to the reference.
  const pre = hf[name].tokenizer === 'bpe' ? hf[name].pre : undefined
  await quantizeModel(source, method, method.parseConfig(method.fromFlags({ type })), store, { pre })
  const hash = createHash('sha256')
  expect(hash.update(await readFile(path)).digest('hex')).toBe(hf[name].outtypes[type].sha256)
  await source.checkpoint.close()
})
