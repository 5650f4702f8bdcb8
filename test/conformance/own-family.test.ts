// docs/add-a-family.md: a family of one's own, registered through the public entry, against the reference's logits on every device and
// through a quantised folder.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { rowsOf } from '../../src/backends/batch.ts'
import { openBackend } from '../../src/backends/index.ts'
import { localFiles } from '../../src/checkpoint/node/files.ts'
import { openCheckpoint } from '../../src/checkpoint/open.ts'
import { registerModel } from '../../src/models/index.ts'
import { type ModelSource, modelSource } from '../../src/models/source.ts'
import { starcoder2 } from '../support/own-family.ts'
import { FIXTURES, fixtureTensors, largestDifference, span } from '../support/tensors.ts'

registerModel(starcoder2)
const FOLDER = 'transformers/starcoder2'

async function open(): Promise<ModelSource> {
  const checkpoint = await openCheckpoint(await localFiles(join(FIXTURES, FOLDER)))
  onTestFinished(() => checkpoint.close())
  return modelSource(checkpoint)
}

describe.each(['reference', 'cpu', 'wasm'])('%s', (device) => {
  test('gives the logits of transformers', async () => {
    const expected = await fixtureTensors(`${FOLDER}/expected.safetensors`)
    const source = await open()
    expect(source.warnings).toEqual([])
    const backend = await openBackend(device)
    const model = await backend.compile(source.graph, source.load, { precision: 'exact', threads: 1 })
    const logits = await model.run(rowsOf(expected.get('ids')!.ints(), 0, 'all'))
    const reference = expected.get('logits')!.floats()
    expect(largestDifference(logits, reference).difference).toBeLessThan(span(reference) * 1e-5)
  })
})

test('the guide shows this very family, in fewer than 100 lines', async () => {
  const guide = await readFile(join(import.meta.dirname, '../../docs/add-a-family.md'), 'utf8')
  const shown = /```ts\n(.*?)```/s.exec(guide)![1]
  const tested = await readFile(join(import.meta.dirname, '../support/own-family.ts'), 'utf8')
  expect(tested.split('\n').slice(1).join('\n')).toBe(shown.replace("'fewbit/models'", "'../../src/models/index.ts'"))
  expect(shown.split('\n').length).toBeLessThan(100)
})

test('a model_type that is taken is refused', () => {
  expect(() => registerModel(starcoder2)).toThrow('A family for model_type "starcoder2" is registered already')
})
