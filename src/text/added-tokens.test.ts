import { expect, test } from 'vitest'
import { AddedTokenSplitter } from './added-tokens.ts'
import type { AddedTokenJson } from './types.ts'

function split(text: string, ...tokens: (Partial<AddedTokenJson> & { content: string })[]): string[] {
  const entries = tokens.map((t, id) => [t.content, { id, ...t }] as const)
  return new AddedTokenSplitter(entries).split(text).map((s) => (s.token ? `<${s.token.id}>` : s.text))
}

test('the longest match at the leftmost place wins', () => {
  expect(split('xabcdab', { content: 'ab' }, { content: 'abcd' }, { content: 'bcdab' })).toEqual(['x', '<1>', '<0>'])
})

test('a single word has no letters or digits beside it', () => {
  const word = { content: 'ab', single_word: true }
  expect(split('ab cab abc ab', word)).toEqual(['<0>', ' cab abc ', '<0>'])
  expect(split('éab abé (ab)', word)).toEqual(['éab abé (', '<0>', ')'])
  expect(split('ab𝒳', word)).toEqual(['ab𝒳'])
})

test('lstrip and rstrip swallow White_Space: U+0085 is one, U+FEFF is none', () => {
  expect(split('x \u0085T', { content: 'T', lstrip: true })).toEqual(['x', '<0>'])
  expect(split('x\ufeffT', { content: 'T', lstrip: true })).toEqual(['x\ufeff', '<0>'])
  expect(split('T \u0085x', { content: 'T', rstrip: true })).toEqual(['<0>', 'x'])
  expect(split('T \u3000 T', { content: 'T', lstrip: true, rstrip: true })).toEqual(['<0>', '<0>'])
})

test('empty text and empty contents give nothing', () => {
  expect(split('', { content: 'a' })).toEqual([])
  expect(split('ab', { content: '' })).toEqual(['ab'])
})
