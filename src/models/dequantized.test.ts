import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { FIXTURES } from '../../test/support/tensors.ts'
import { localFiles } from '../checkpoint/node/files.ts'
import { openCheckpoint } from '../checkpoint/open.ts'
import { decode } from '../weights/weight.ts'
import { dequantizedSource } from './dequantized.ts'
import { modelSource } from './source.ts'

test('a GGUF file becomes a float model with the names of a folder and the values of its blocks', async () => {
  const checkpoint = await openCheckpoint(await localFiles(join(FIXTURES, 'gguf/models/b-q4_k_m.gguf')))
  onTestFinished(() => checkpoint.close())
  const source = await modelSource(checkpoint)
  const float = await dequantizedSource(source)
  expect(float.method).toBeUndefined()
  expect(float.configJson).toMatchObject({ model_type: 'llama', tie_word_embeddings: true })
  expect([...float.checkpoint.tensors.keys()]).toContain('model.layers.0.self_attn.q_proj.weight')
  const index = float.parameters.findIndex((p) => p.name === 'model.layers.0.self_attn.q_proj.weight')
  expect(decode(await float.load(index))).toEqual(decode(await source.load(index)))
})
