import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { localFiles } from '../checkpoint/node/files.ts'
import { outputStore } from '../checkpoint/node/output.ts'
import { copyOtherFiles } from './files.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fewbit-files-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

test('everything beside the weights is copied, named chat templates included; weights of any framework are not', async () => {
  const model = join(folder, 'model')
  await mkdir(join(model, 'additional_chat_templates'), { recursive: true })
  await mkdir(join(model, 'onnx'))
  const others = ['generation_config.json', 'tokenizer.json', 'tokenizer.model', 'README.md', 'chat_template.jinja']
  const weights = ['model.safetensors', 'pytorch_model.bin', 'x.gguf', 'model.safetensors.index.json', 'config.json']
  for (const name of [...others, ...weights, 'additional_chat_templates/tools.jinja', 'onnx/model.onnx'])
    await writeFile(join(model, name), name)
  const out = join(folder, 'out')
  const store = await outputStore(out, { force: false })
  await copyOtherFiles(await localFiles(model), store)
  await store.commit()
  expect((await readdir(out)).sort()).toEqual([...others, 'additional_chat_templates'].sort())
  expect(await readFile(join(out, 'additional_chat_templates/tools.jinja'), 'utf8')).toContain('tools')
})
