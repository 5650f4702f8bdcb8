// Files that lie about a model: each is refused with the class, the fields and the hint that belong to it, in bounded time.
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { openCheckpoint } from '../../src/checkpoint/open.ts'
import { readSafetensorsHeader, safetensorsHeader, safetensorsOrder } from '../../src/checkpoint/safetensors.ts'
import { modelSource } from '../../src/models/source.ts'
import { fixture } from '../support/fixtures.ts'
import { memoryFiles, memorySource } from '../support/memory-files.ts'
import { refusalOf } from '../support/refusal.ts'

const FOLDER = 'transformers/models/llama'
const config = JSON.parse(readFileSync(fixture(`${FOLDER}/config.json`), 'utf8')) as Record<string, unknown>
const weights = new Uint8Array(readFileSync(fixture(`${FOLDER}/model.safetensors`)))

interface Entry {
  name: string
  dtype: string
  shape: number[]
}

/** The fixture's file with another table; data is zeros. */
async function rewritten(change: (entries: Entry[]) => Entry[]): Promise<Uint8Array> {
  const { tensors } = await readSafetensorsHeader(memorySource('m', weights))
  const entries = change(tensors.map((t) => ({ name: t.name, dtype: t.dtype, shape: [...t.shape] })))
  const { header, total } = safetensorsHeader(entries.sort(safetensorsOrder), new Map([['format', 'pt']]))
  const file = new Uint8Array(total)
  file.set(header)
  return file
}

const refusal = (files: Record<string, Uint8Array | string>) => refusalOf(files, 10_000)

test.each([
  ['a billion layers', { num_hidden_layers: 1_000_000_000 }],
  ['a negative number of layers', { num_hidden_layers: -1 }],
  ['half a layer', { num_hidden_layers: 1.5 }],
  ['no heads', { num_attention_heads: 0 }],
  ['heads that do not divide', { num_key_value_heads: 3 }],
  ['a vocabulary of 2^53', { vocab_size: 2 ** 53 }],
  ['a hidden size that is text', { hidden_size: 'large' }],
  ['an unknown model type', { model_type: 'unheard-of' }],
  ['a model type that is an object', { model_type: {} }],
  ['a method that is not there', { quantization_config: { quant_method: 'magic' } }],
  ['a config of a method that is text', { quantization_config: { quant_method: 'hqq', quant_config: 'x' } }],
])('config.json: %s', async (_, change) => {
  const error = await refusal({ 'config.json': JSON.stringify({ ...config, ...change }), 'model.safetensors': weights })
  expect(['config', 'unsupported', 'file', 'usage']).toContain(error.code)
  expect(error.message).not.toBe('')
})

test.each([
  ['no object', '[]'],
  ['100,000 levels', `{"a":${'['.repeat(100_000)}`],
  ['no JSON', 'model_type: llama'],
  ['no UTF-8', Uint8Array.of(0x7b, 0xff, 0x7d)],
])('config.json: %s', async (_, text) => {
  const error = await refusal({ 'config.json': text, 'model.safetensors': weights })
  expect(error).toMatchObject({ code: 'file', fields: { file: 'config.json' } })
})

test('a folder without config.json', async () => {
  expect((await refusal({ 'model.safetensors': weights })).fields.file).toBe('config.json')
})

test('a missing tensor is named', async () => {
  const file = await rewritten((entries) => entries.filter((e) => e.name !== 'model.layers.0.mlp.up_proj.weight'))
  const error = await refusal({ 'config.json': JSON.stringify(config), 'model.safetensors': file })
  expect(error.message).toContain('model.layers.0.mlp.up_proj.weight')
  expect(error.hint).toBeDefined()
})

test('a tensor of another shape is named with both shapes', async () => {
  const file = await rewritten((entries) =>
    entries.map((e) => (e.name === 'model.layers.0.mlp.up_proj.weight' ? { ...e, shape: [3, 5] } : e)),
  )
  const error = await refusal({ 'config.json': JSON.stringify(config), 'model.safetensors': file })
  expect(error.message).toMatch(/model\.layers\.0\.mlp\.up_proj\.weight.*3.*5/)
  expect(error.fields).toMatchObject({ tensor: 'model.layers.0.mlp.up_proj.weight' })
})

test('a weight of integers is refused', async () => {
  const file = await rewritten((entries) =>
    entries.map((e) => (e.name === 'model.layers.0.mlp.up_proj.weight' ? { ...e, dtype: 'I64' } : e)),
  )
  const error = await refusal({ 'config.json': JSON.stringify(config), 'model.safetensors': file })
  expect(error.message).toContain('model.layers.0.mlp.up_proj.weight')
})

test('100,000 tensors that nobody asked for are listed shortly, in little time', async () => {
  const file = await rewritten((entries) => [
    ...entries,
    ...Array.from({ length: 100_000 }, (_, i) => ({ name: `x.${i}`, dtype: 'U8', shape: [0] })),
  ])
  const source = await modelSource(
    await openCheckpoint(memoryFiles({ 'config.json': JSON.stringify(config), 'model.safetensors': file })),
  )
  expect(source.warnings.join('').length).toBeLessThan(10_000)
})
