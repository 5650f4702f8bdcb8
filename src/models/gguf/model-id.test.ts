import { expect, test } from 'vitest'
import { type ModelId, parseModelId, sizeLabel } from './model-id.ts'

test.each<[string, number, Partial<ModelId>]>([
  ['llama3-rope', 49e3, { title: 'Llama3 Rope' }],
  ['stories-7m', 7.3e6, { title: 'Stories 7m', basename: 'stories', sizeLabel: '7M' }],
  [
    'Qwen2.5-0.5B-Instruct',
    494e6,
    { title: 'Qwen2.5 0.5B Instruct', basename: 'Qwen2.5', sizeLabel: '0.5B', finetune: 'Instruct' },
  ],
  [
    'mistralai/Mistral-7B-v0.1',
    7.2e9,
    { title: 'Mistral 7B v0.1', organization: 'Mistralai', basename: 'Mistral', sizeLabel: '7B', version: 'v0.1' },
  ],
  // 128k is no size of a model of 3.8 billion parameters.
  [
    'Phi-3-mini-128k-instruct',
    3.8e9,
    { title: 'Phi 3 Mini 128k Instruct', basename: 'Phi-3', sizeLabel: 'mini', finetune: '128k-instruct' },
  ],
  ['bloom-7b1', 7.07e9, { title: 'Bloom 7b1', basename: 'bloom', sizeLabel: '7.1B' }],
  ['My Own Model', 1e9, { title: 'My Own Model' }],
])('%s', (id, parameters, expected) => {
  const found = parseModelId(id, parameters)
  expect(Object.fromEntries(Object.entries(found).filter(([, value]) => value !== undefined))).toEqual(expected)
})

test.each([
  [31_264, '31K'],
  [7_306_240, '7.3M'],
  [134_515_008, '135M'],
  [8_030_261_248, '8.0B'],
  [512, '0.5K'],
])('%d parameters are %s', (parameters, label) => {
  expect(sizeLabel(parameters)).toBe(label)
})
