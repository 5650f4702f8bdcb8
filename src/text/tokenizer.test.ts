import { describe, expect, test } from 'vitest'
import { readExpected, readTokenizer, TOKENIZER_KINDS } from '../../test/support/tokenizer-fixtures.ts'
import { FileError } from '../core/errors.ts'
import { tokenizerFromJson } from './tokenizer.ts'

describe.each(TOKENIZER_KINDS)('tokenizer %s agrees with the reference', (kind) => {
  const tokenizer = readTokenizer(kind)
  const expected = readExpected(kind)

  test('115 strings encode to the same ids', () => {
    expect(expected.cases).toHaveLength(115)
    const ids = expected.cases.map((c) => ({ text: c.text, ids: tokenizer.encode(c.text) }))
    expect(ids).toEqual(expected.cases.map((c) => ({ text: c.text, ids: c.ids })))
  })

  test('115 strings encode to the same ids without special tokens', () => {
    const ids = expected.cases.map((c) => tokenizer.encode(c.text, { addSpecialTokens: false }))
    expect(ids).toEqual(expected.cases.map((c) => c.ids_without_specials))
  })

  test('the ids of 115 strings decode to the same text', () => {
    const texts = expected.cases.map((c) => tokenizer.decode(c.ids_without_specials))
    expect(texts).toEqual(expected.cases.map((c) => c.decoded))
    const skipped = expected.cases.map((c) => tokenizer.decode(c.ids, { skipSpecialTokens: true }))
    expect(skipped).toEqual(expected.cases.map((c) => c.decoded_skip_special))
  })

  test('80 random id lists decode to the same text', () => {
    expect(expected.decode_cases).toHaveLength(80)
    const texts = expected.decode_cases.map((c) => tokenizer.decode(c.ids))
    expect(texts).toEqual(expected.decode_cases.map((c) => c.text))
    const skipped = expected.decode_cases.map((c) => tokenizer.decode(c.ids, { skipSpecialTokens: true }))
    expect(skipped).toEqual(expected.decode_cases.map((c) => c.text_skip_special))
  })

  test.runIf(expected.chat)('chats render and encode to the same ids', () => {
    for (const chat of expected.chat ?? []) {
      const options = { addGenerationPrompt: chat.add_generation_prompt }
      expect(tokenizer.renderChat(chat.messages, options)).toBe(chat.text)
      expect(tokenizer.applyChatTemplate(chat.messages, options)).toEqual(chat.ids)
    }
  })
})

test('the fixtures hold every kind, three of them with chats', () => {
  expect(TOKENIZER_KINDS).toHaveLength(8)
  expect(TOKENIZER_KINDS.filter((kind) => readExpected(kind).chat)).toEqual(['llama3', 'qwen2', 'smollm2'])
})

describe('special tokens', () => {
  test('have ids by role', () => {
    expect(readTokenizer('llama3').specialIds).toEqual({ bos: 0, eos: 3, pad: 3, unk: undefined })
    expect(readTokenizer('gpt2').specialIds).toEqual({})
  })

  test('are known by id', () => {
    const tokenizer = readTokenizer('smollm2')
    expect([0, 1, 2, 3].map((id) => tokenizer.isSpecial(id))).toEqual([true, true, true, false])
    expect(tokenizer.tokenOf(2)).toBe('<|im_end|>')
    expect(tokenizer.idOf('<|im_end|>')).toBe(2)
    expect(tokenizer.vocabSize).toBe(520)
  })
})

const MINIMAL = { model: { type: 'BPE', vocab: { a: 0, b: 1 }, merges: [] } }

function withModel(model: object): string {
  return JSON.stringify({ model: { ...MINIMAL.model, ...model } })
}

describe('a damaged tokenizer.json is a FileError that names the problem', () => {
  test.each([
    ['not JSON', '{"model":', 'as JSON'],
    ['a list', '[]', 'the top level is not an object'],
    ['without a model', '{}', 'it has no "model"'],
    ['without a vocabulary', withModel({ vocab: null }), 'has no "vocab"'],
    ['a negative id', withModel({ vocab: { a: -1 } }), 'has the id -1'],
    ['an id beyond all limits', withModel({ vocab: { a: 4e9 } }), 'has the id 4000000000'],
    ['a merge of three', withModel({ merges: ['a b c'] }), 'merge 0 is not a pair'],
    ['merges that are no list', withModel({ merges: {} }), 'no list "merges"'],
    ['an unknown token that is not there', withModel({ unk_token: '<unk>' }), '"<unk>" is not in the vocabulary'],
    ['a step without a type', JSON.stringify({ ...MINIMAL, decoder: {} }), 'a step without a "type"'],
    ['a step of an unknown type', JSON.stringify({ ...MINIMAL, decoder: { type: 'Magic' } }), 'Magic'],
    [
      'an illegal pattern',
      JSON.stringify({ ...MINIMAL, pre_tokenizer: { type: 'Split', pattern: { Regex: '(' } } }),
      'Unterminated group',
    ],
    ['a token that is not text', JSON.stringify({ ...MINIMAL, added_tokens: [{ id: 3 }] }), 'not a string'],
  ])('%s', (_, text, message) => {
    expect(() => tokenizerFromJson(text)).toThrow(FileError)
    expect(() => tokenizerFromJson(text)).toThrow(message)
  })

  test('steps nested without end', () => {
    let step: object = { type: 'ByteLevel' }
    for (let i = 0; i < 1000; i++) step = { type: 'Sequence', pretokenizers: [step] }
    expect(() => tokenizerFromJson(JSON.stringify({ ...MINIMAL, pre_tokenizer: step }))).toThrow('nested deeper')
  })
})

test('keys of Object.prototype are ordinary tokens', () => {
  const vocab = '{"_":0,"__":1,"p":2,"constructor":3,"__proto__":4}'
  const tokenizer = tokenizerFromJson(`{"model":{"type":"BPE","ignore_merges":true,"vocab":${vocab},"merges":[]}}`)
  expect(tokenizer.encode('__proto__')).toEqual([4])
  expect(tokenizer.encode('constructor')).toEqual([3])
  expect(tokenizer.idOf('toString')).toBeUndefined()
})
