import { existsSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { readExpected, readTokenizer } from '../../test/support/tokenizer-fixtures.ts'
import { FileError, UnsupportedError } from '../core/errors.ts'
import { ggufEndIds, tokenizerFromGguf } from './gguf-vocabulary.ts'
import { type GgufTokenizerSource, type GgufTokenizerValue, ggufTokenizer } from './gguf-write.ts'
import { preTokenizerName } from './pre-tokenizers.ts'
import { readSentencePiece } from './sentencepiece.ts'
import { parseTokenizerJson } from './tokenizer-json.ts'

interface Kv {
  readonly key: string
  readonly types: string[]
  readonly value: unknown
}

const ROOT = resolve(import.meta.dirname, '../../test/fixtures/gguf/models')
const { hf } = JSON.parse(readFileSync(`${ROOT}/models.json`, 'utf8')) as {
  hf: Record<string, { arch: string; pre: string; tokenizer: string; outtypes: Record<string, { kv: Kv[] }> }>
}

function sourceOf(name: string, more: Partial<GgufTokenizerSource> = {}): GgufTokenizerSource {
  const path = (file: string) => `${ROOT}/hf/${name}/${file}`
  const json = (file: string) => (existsSync(path(file)) ? JSON.parse(readFileSync(path(file), 'utf8')) : undefined)
  const stored = (file: string) => (existsSync(path(file)) ? readFileSync(path(file), 'utf8') : undefined)
  const tokenizerJson = stored('tokenizer.json')
  return {
    architecture: hf[name].arch,
    config: json('config.json'),
    tokenizerConfig: json('tokenizer_config.json'),
    tokenizerJson: tokenizerJson ? parseTokenizerJson(tokenizerJson) : undefined,
    tokenizerModel: existsSync(path('tokenizer.model'))
      ? new Uint8Array(readFileSync(path('tokenizer.model')))
      : undefined,
    chatTemplate: stored('chat_template.jinja'),
    ...more,
  }
}

/** In the form of models.json. */
function plain([key, value]: [string, GgufTokenizerValue]): Kv {
  const names = { string: 'STRING', u32: 'UINT32', bool: 'BOOL', i32: 'INT32', f32: 'FLOAT32' }
  if (value.type !== 'array') return { key, types: [names[value.type]], value: value.value }
  return { key, types: ['ARRAY', names[value.element]], value: Array.from(value.value as ArrayLike<string | number>) }
}

describe.each(Object.keys(hf))('the tokenizer of the folder %s', (name) => {
  const expected = hf[name].outtypes.f16.kv.filter(({ key }) => key.startsWith('tokenizer.'))

  test('gives the key-values of the reference converter, in its order', async () => {
    const { metadata } = await ggufTokenizer(
      sourceOf(name, { pre: hf[name].tokenizer === 'bpe' ? hf[name].pre : undefined }),
    )
    expect([...metadata].map(plain)).toEqual(expected)
  })

  test('read back from the key-values encodes and decodes every text', async () => {
    const source = sourceOf(name, { pre: hf[name].tokenizer === 'bpe' ? hf[name].pre : undefined })
    const { metadata } = await ggufTokenizer(source)
    const tokenizer = tokenizerFromGguf(metadata, 'x.gguf')
    for (const text of ['The quick brown fox', ' jumps  over\n\tthe lazy dog!', 'Grüße, мир 你好 😀 1234']) {
      const ids = tokenizer.encode(text, { addSpecialTokens: false })
      expect(tokenizer.decode(ids)).toBe(text)
    }
    expect(tokenizer.vocabSize).toBe(source.config.vocab_size)
  })
})

describe('a byte-level tokenizer through GGUF and back', () => {
  const kinds = { smollm2: 'smollm', llama3: 'llama-bpe', qwen2: 'qwen2', gpt2: 'gpt-2', o200k: 'gpt-4o' }

  test.each(Object.entries(kinds))('%s is recognised as %s by its rule and encodes the same ids', async (kind, pre) => {
    const original = readTokenizer(kind)
    const config = { bos_token: '<s>' }
    const source = { architecture: 'llama', config: {}, tokenizerConfig: config, tokenizerJson: original.json }
    const { metadata, warnings } = await ggufTokenizer(source)
    expect(metadata.get('tokenizer.ggml.pre')).toEqual({ type: 'string', value: pre })
    expect(warnings).toEqual([]) // the same rule, so nothing is lost
    const copy = tokenizerFromGguf(metadata, 'x.gguf')
    const { cases, decode_cases } = readExpected(kind)
    const encoded = cases.map((c) => copy.encode(c.text, { addSpecialTokens: false }))
    expect(encoded).toEqual(cases.map((c) => c.ids_without_specials))
    expect(decode_cases.map((c) => copy.decode(c.ids))).toEqual(decode_cases.map((c) => c.text))
  })

  test('a splitting rule that no name has is written as default, with a warning', () => {
    const { name, warning } = preTokenizerName('00', { type: 'Whitespace' })
    expect(name).toBe('default')
    expect(warning).toContain('may split otherwise')
    expect(preTokenizerName('855059429035d75a914d1eda9f10a876752e281a054a7a3d421ef0533e5b6249', null)).toEqual({
      name: 'smollm',
    })
  })

  test('SmolLM2 by its vocabulary size adds no bos, and holes are padded', async () => {
    const json = readTokenizer('smollm2').json
    const source = { architecture: 'llama', config: { vocab_size: 49152 }, tokenizerJson: json }
    const { metadata } = await ggufTokenizer(source)
    expect([...metadata.keys()].at(-1)).toBe('tokenizer.ggml.add_bos_token')
    const tokens = metadata.get('tokenizer.ggml.tokens')!.value as string[]
    expect(tokens[49151]).toBe('[PAD49151]')
    expect((metadata.get('tokenizer.ggml.token_type')!.value as Int32Array)[49151]).toBe(5)
    await expect(ggufTokenizer({ ...source, config: { vocab_size: 100 } })).rejects.toThrow('vocab_size is 100')
  })
})

describe('a SentencePiece tokenizer from GGUF', () => {
  test('byte-fallback BPE without a tokenizer.model gets scores that merge in the same order', async () => {
    const original = readTokenizer('llama2-legacy')
    const added = original.json.added_tokens.filter((t) => t.special)
    const json = { ...original.json, added_tokens: added }
    const source = { architecture: 'llama', config: {}, tokenizerJson: json, tokenizerConfig: { bos_token: '<s>' } }
    const { metadata, warnings } = await ggufTokenizer(source)
    expect(warnings).toEqual([expect.stringContaining('no tokenizer.model')])
    const copy = tokenizerFromGguf(metadata, 'x.gguf')
    const { cases } = readExpected('llama2-legacy')
    const plainCases = cases.filter((c) => !/<\|im_start\|>|\[INST\]/.test(c.text))
    expect(plainCases.length).toBeGreaterThan(80)
    const encoded = plainCases.map((c) => ({ text: c.text, ids: copy.encode(c.text) }))
    expect(encoded).toEqual(plainCases.map((c) => ({ text: c.text, ids: c.ids })))
  })

  test('adds bos and a space before the text unless the file says otherwise', () => {
    const base = new Map<string, unknown>([
      ['tokenizer.ggml.model', { type: 'string', value: 'llama' }],
      [
        'tokenizer.ggml.tokens',
        { type: 'array', element: 'string', value: ['<unk>', '<s>', '\u2581', 'a', '\u2581a'] },
      ],
      ['tokenizer.ggml.token_type', { type: 'array', element: 'i32', value: Int32Array.of(2, 3, 1, 1, 1) }],
      ['tokenizer.ggml.scores', { type: 'array', element: 'f32', value: Float32Array.of(0, 0, -1, -2, -3) }],
      ['tokenizer.ggml.bos_token_id', { type: 'u32', value: 1 }],
    ])
    const flag = (name: string) => [[`tokenizer.ggml.${name}`, { type: 'bool', value: false }] as const]
    expect(tokenizerFromGguf(base, 'x').encode('a')).toEqual([1, 4])
    expect(tokenizerFromGguf(new Map([...base, ...flag('add_bos_token')]), 'x').encode('a')).toEqual([4])
    expect(tokenizerFromGguf(new Map([...base, ...flag('add_space_prefix')]), 'x').encode('a')).toEqual([1, 3])
    expect(tokenizerFromGguf(base, 'x').specialIds).toEqual({ bos: 1, eos: undefined, pad: undefined, unk: undefined })
  })
})

describe('key-values that lie are refused', () => {
  const good = new Map<string, unknown>([
    ['tokenizer.ggml.model', { type: 'string', value: 'gpt2' }],
    ['tokenizer.ggml.pre', { type: 'string', value: 'smollm' }],
    ['tokenizer.ggml.tokens', { type: 'array', element: 'string', value: ['a', 'b', '<|im_end|>', 'ab'] }],
    ['tokenizer.ggml.token_type', { type: 'array', element: 'i32', value: Int32Array.of(1, 1, 3, 1) }],
    ['tokenizer.ggml.merges', { type: 'array', element: 'string', value: ['a b'] }],
    ['tokenizer.ggml.eos_token_id', { type: 'u32', value: 2 }],
  ])

  test('the good ones are read', () => {
    expect(tokenizerFromGguf(good, 'x').encode('ab<|im_end|>b')).toEqual([3, 2, 1])
    expect(ggufEndIds(good, 'x')).toEqual([2])
  })

  test.each([
    ['model', { type: 'string', value: 'rwkv' }, UnsupportedError, '"rwkv"'],
    ['pre', { type: 'string', value: 'of-tomorrow' }, UnsupportedError, '"of-tomorrow"'],
    ['tokens', { type: 'array', element: 'i32', value: [1] }, FileError, 'a list of at most'],
    ['token_type', { type: 'array', element: 'i32', value: Int32Array.of(1) }, FileError, 'a list of 4 numbers'],
    ['merges', { type: 'array', element: 'string', value: ['ab'] }, FileError, 'is not "a b"'],
    ['eos_token_id', { type: 'u32', value: 9 }, FileError, 'an id below 4'],
  ])('%s', (key, value, error, message) => {
    const bad = new Map(good).set(`tokenizer.ggml.${key}`, value)
    expect(() => tokenizerFromGguf(bad, 'x.gguf')).toThrow(error)
    expect(() => tokenizerFromGguf(bad, 'x.gguf')).toThrow(message)
  })
})

describe('a damaged tokenizer.model', () => {
  const bytes = new Uint8Array(readFileSync(`${ROOT}/hf/mistral/tokenizer.model`))

  test('cut anywhere is a FileError or a shorter list, never a crash', () => {
    let errors = 0
    for (let length = 0; length < bytes.length; length += 7) {
      try {
        expect(readSentencePiece(bytes.subarray(0, length)).tokens.length).toBeLessThanOrEqual(384)
      } catch (error) {
        expect(error).toBeInstanceOf(FileError)
        errors++
      }
    }
    expect(errors).toBeGreaterThan(bytes.length / 7 / 2)
  })

  test.each([
    [[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f], 'a field claims 4294967295 bytes'],
    [[0x0a, 0x80], 'ends inside a number'],
    [[0x0b], 'unknown wire type 3'],
    [[0x0a, 0x04, 0x0a, 0x02, 0xc3, 0x28], 'not UTF-8'],
    [[0x0a, 0x02, 0x18, 0x09], 'unknown type 9'],
    [[], 'no pieces'],
  ])('%j', (list, message) => {
    expect(() => readSentencePiece(Uint8Array.from(list))).toThrow(message)
  })

  test('a whole one has pieces, types, scores and the dummy prefix', () => {
    const model = readSentencePiece(bytes)
    expect(model.tokens.slice(0, 4)).toEqual(['<unk>', '<s>', '</s>', '<0x00>'])
    expect([...model.types.slice(0, 4)]).toEqual([2, 3, 3, 6])
    expect(model).toMatchObject({ kind: 'bpe', unkId: 0, bosId: 1, eosId: 2 })
  })
})
