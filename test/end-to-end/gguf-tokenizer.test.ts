// The embedded model as a GGUF file is spoken to as the folder is: same ids, same chat, same end tokens.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { generationDefaults } from '../../src/api/open.ts'
import { tokenizerOf } from '../../src/api/tokenizer.ts'
import { localFiles } from '../../src/checkpoint/node/files.ts'
import { outputStore } from '../../src/checkpoint/node/output.ts'
import { openCheckpoint } from '../../src/checkpoint/open.ts'
import { methodNamed } from '../../src/methods/index.ts'
import { modelSource } from '../../src/models/source.ts'
import { quantizeModel } from '../../src/quantize/quantize.ts'

const FOLDER = resolve(import.meta.dirname, '../../models/stories-7m')
const open = async (path: string) => modelSource(await openCheckpoint(await localFiles(path)))

test('a GGUF file has the tokenizer, chat template and end tokens of the folder it was made from', async () => {
  const out = await mkdtemp(join(tmpdir(), 'fewbit-gguf-'))
  const path = join(out, 'model.gguf')
  const folder = await open(FOLDER)
  const method = methodNamed('gguf')
  const store = await outputStore(path, { force: false, single: true })
  const config = method.parseConfig(method.fromFlags({ type: 'bf16' }))
  const { warnings } = await quantizeModel(folder, method, config, store)
  expect(warnings).toEqual([]) // its splitting rule is one that llama.cpp has
  const file = await open(path)
  const [a, b] = [await tokenizerOf(folder.checkpoint.files), await tokenizerOf(file.checkpoint.files)]
  const text = "Once upon a time, there were 12 little foxes. It's naïve 😀<|im_end|>\n"
  expect(b.encode(text)).toEqual(a.encode(text))
  expect(b.decode(a.encode(text))).toBe(text)
  const messages = [{ role: 'user', content: 'Tell me a story' }]
  const options = { addGenerationPrompt: true }
  expect(b.applyChatTemplate(messages, options)).toEqual(a.applyChatTemplate(messages, options))
  expect(b.specialIds.eos).toBe(a.specialIds.eos)
  const ends = async (source: typeof file) =>
    [(await generationDefaults(source)).settings.eosTokenId ?? []].flat().sort()
  expect(await ends(file)).toEqual(await ends(folder))
  for (const source of [folder, file]) await source.checkpoint.close()
  await rm(out, { recursive: true })
})
