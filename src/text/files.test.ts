import { existsSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { FileError } from '../core/errors.ts'
import { type FileReader, tokenizerFromFolder } from './files.ts'
import { tokenizerFromGguf } from './gguf-vocabulary.ts'
import { ggufTokenizer } from './gguf-write.ts'

const FIXTURES = resolve(import.meta.dirname, '../../test/fixtures')

function reader(folder: string, more: Record<string, string> = {}): FileReader {
  return async (name) => {
    if (name in more) return new TextEncoder().encode(more[name])
    const path = `${FIXTURES}/${folder}/${name}`
    return existsSync(path) ? new Uint8Array(readFileSync(path)) : undefined
  }
}

describe('a folder with only a tokenizer.model', () => {
  const mistral = 'gguf/models/hf/mistral'

  test('tokenizes as the GGUF file made from it', async () => {
    const tokenizer = await tokenizerFromFolder(reader(mistral), 'mistral')
    const path = (name: string) => readFileSync(`${FIXTURES}/${mistral}/${name}`)
    const { metadata } = await ggufTokenizer({
      architecture: 'llama',
      config: { vocab_size: 384 },
      tokenizerConfig: JSON.parse(path('tokenizer_config.json').toString()),
      tokenizerModel: new Uint8Array(path('tokenizer.model')),
    })
    metadata.set('tokenizer.ggml.bos_token_id', { type: 'u32', value: 1 })
    const copy = tokenizerFromGguf(metadata, 'x.gguf')
    for (const text of ['The quick brown fox', '  two  spaces', 'Grüße 😀</s>x']) {
      expect(tokenizer.encode(text)).toEqual(copy.encode(text))
      expect(tokenizer.decode(tokenizer.encode(text), { skipSpecialTokens: true })).toBe(text.replace('</s>', ' '))
    }
    expect(tokenizer.encode('a')[0]).toBe(1)
    expect(tokenizer.specialIds).toEqual({ bos: 1, eos: 2, unk: 0, pad: undefined })
  })

  test('may have further tokens in its side files', async () => {
    const more = { 'added_tokens.json': '{"[X]": 384, "[Y]": 385}' }
    const tokenizer = await tokenizerFromFolder(reader(mistral, more), 'mistral')
    expect(tokenizer.encode('[Y][X]', { addSpecialTokens: false })).toEqual([385, 384])
    const gap = { 'added_tokens.json': '{"[X]": 4000000000}' }
    await expect(tokenizerFromFolder(reader(mistral, gap), 'mistral')).rejects.toThrow('has the id 4000000000')
  })
})

test('chat_template.json and special_tokens_map.json of older folders are read', async () => {
  const more = {
    'tokenizer_config.json': '{}',
    'special_tokens_map.json': '{"eos_token": {"content": "<|im_end|>"}}',
    'chat_template.jinja': '',
    'chat_template.json': '{"chat_template": "{{ eos_token }}"}',
  }
  const { 'chat_template.jinja': _, ...older } = more
  const tokenizer = await tokenizerFromFolder(reader('transformers/tokenizers/gpt2', older), 'x')
  expect(tokenizer.renderChat([])).toBe('<|im_end|>')
  expect((await tokenizerFromFolder(reader('transformers/tokenizers/smollm2', more), 'x')).renderChat([])).toBe('')
})

test('a folder without a tokenizer is a FileError with the way out', async () => {
  await expect(tokenizerFromFolder(async () => undefined, 'x')).rejects.toThrow(FileError)
  await expect(tokenizerFromFolder(async () => undefined, 'x')).rejects.toThrow(
    'neither tokenizer.json nor tokenizer.model',
  )
})
