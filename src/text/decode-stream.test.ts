import { describe, expect, test } from 'vitest'
import { readExpected, readTokenizer, TOKENIZER_KINDS } from '../../test/support/tokenizer-fixtures.ts'
import { incompleteTail } from './decode-stream.ts'
import type { Tokenizer } from './types.ts'

function pieces(tokenizer: Tokenizer, ids: readonly number[], skipSpecialTokens = false): string[] {
  const stream = tokenizer.decodeStream({ skipSpecialTokens })
  return [...ids.map((id) => stream.push(id)), stream.flush()]
}

const BYTE_LEVEL = ['gpt2', 'llama3', 'o200k', 'qwen2', 'smollm2']

describe.each(TOKENIZER_KINDS)('streaming %s', (kind) => {
  const tokenizer = readTokenizer(kind)
  const { cases, decode_cases } = readExpected(kind)

  test('joins to the decoded text of every string', () => {
    const streamed = cases.map((c) => pieces(tokenizer, c.ids_without_specials).join(''))
    expect(streamed).toEqual(cases.map((c) => c.decoded))
    const skipped = cases.map((c) => pieces(tokenizer, c.ids, true).join(''))
    expect(skipped).toEqual(cases.map((c) => c.decoded_skip_special))
  })

  test('never cuts a character: no piece of valid text holds U+FFFD', () => {
    const valid = cases.filter((c) => !c.text.includes('\ufffd') && !/\p{Surrogate}/u.test(c.text))
    expect(valid.length).toBeGreaterThan(100)
    expect(valid.flatMap((c) => pieces(tokenizer, c.ids)).filter((piece) => piece.includes('\ufffd'))).toEqual([])
  })

  test.runIf(BYTE_LEVEL.includes(kind))('joins to the decoded text of random ids', () => {
    const streamed = decode_cases.map((c) => pieces(tokenizer, c.ids).join(''))
    expect(streamed).toEqual(decode_cases.map((c) => c.text))
  })

  test.skipIf(BYTE_LEVEL.includes(kind))('differs on random ids only inside runs of wrong bytes', () => {
    const cleaned = (text: string) => text.replace(/[\ufffd\p{ASCII}]/gu, '')
    const streamed = decode_cases.map((c) => cleaned(pieces(tokenizer, c.ids).join('')))
    expect(streamed).toEqual(decode_cases.map((c) => cleaned(c.text)))
  })
})

test('a character of four bytes comes out with its last byte', () => {
  const tokenizer = readTokenizer('llama2-legacy')
  const byte = (value: string) => tokenizer.idOf(`<0x${value}>`)!
  expect(pieces(tokenizer, [byte('F0'), byte('9F'), byte('98'), byte('80')])).toEqual(['', '', '', '😀', ''])
})

test('a character that never ends is flushed as U+FFFD', () => {
  const tokenizer = readTokenizer('llama2-legacy')
  const byte = (value: string) => tokenizer.idOf(`<0x${value}>`)!
  expect(pieces(tokenizer, [byte('F0'), byte('9F')])).toEqual(['', '', '\ufffd\ufffd'])
  expect(pieces(tokenizer, [byte('F0'), byte('9F'), tokenizer.idOf('a')!])).toEqual(['', '', '\ufffd\ufffda', ''])
})

test('the space that the tokenizer put before the text is dropped once', () => {
  const tokenizer = readTokenizer('llama2-legacy')
  const space = tokenizer.idOf('▁')!
  expect(pieces(tokenizer, [space, tokenizer.idOf('a')!, space])).toEqual(['', 'a', ' ', ''])
})

test.each([
  [[], 0],
  [[0x41], 0],
  [[0xc3], 1],
  [[0xe2, 0x82], 2],
  [[0xf0, 0x9f, 0x98], 3],
  [[0xf0, 0x9f, 0x98, 0x80], 0],
  [[0x80], 0],
  [[0xff], 0],
  [[0xe0, 0x80], 0],
  [[0xf4, 0x90], 0],
])('of the bytes %j, %i may still become a character', (bytes, expected) => {
  expect(incompleteTail(Uint8Array.from(bytes))).toBe(expected)
})
