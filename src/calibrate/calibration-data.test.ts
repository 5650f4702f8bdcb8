// Files of calibration data -> blocks of ids: every form, every rule of cutting, and what is refused.
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { memorySource } from '../../test/support/memory-files.ts'
import { FIXTURES } from '../../test/support/tensors.ts'
import { openFile } from '../checkpoint/node/files.ts'
import type { CalibrationRules } from '../methods/calibration.ts'
import type { Tokenizer } from '../text/types.ts'
import { calibrationBlocks } from './blocks.ts'
import { type CalibrationFile, readCalibration } from './samples.ts'

const file = (name: string, text: string) => readCalibration(memorySource(name, new TextEncoder().encode(text)))
const fixture = async (name: string) => readCalibration(await openFile(join(FIXTURES, 'calibration', name)))

/** One id a letter; a conversation is its contents with 99 before each. */
const letters = {
  encode: (text: string) => [...text].map((c) => c.charCodeAt(0) - 96),
  applyChatTemplate: (messages: readonly { content: unknown }[]) =>
    messages.flatMap(({ content }) => [99, ...letters.encode(String(content))]),
} as unknown as Tokenizer & { encode(text: string): number[] }

function blocks(
  from: CalibrationFile,
  rules: CalibrationRules,
  options: { truncate?: boolean; vocabSize?: number } = {},
) {
  const all = { rules, contextLength: 64, vocabSize: 100, ...options }
  const { ids, summary } = calibrationBlocks(from, () => letters, all)
  return { blocks: ids.blocks.map((block) => [...block]), summary }
}

const JOINED = { cut: 'joined', length: 3 } as const
const SHORT = { cut: 'short-samples', length: 3, samples: 2 } as const

test('a .jsonl mixes texts, conversations and ids; blank lines do not count', async () => {
  const lines = [
    '{"text": " ab "}',
    '',
    '{"messages": [{"role": "user", "content": "c"}]}',
    '{"input_ids": [7, 8]}',
    '"d"',
    '[9]',
  ]
  const data = await file('data.jsonl', lines.join('\n'))
  expect(blocks(data, JOINED).blocks).toEqual([
    [1, 2, 99],
    [3, 7, 8],
  ])
})

test('a .json is an array of the same', async () => {
  const data = await file('data.json', '[{"text": "abc"}, "de", {"input_ids": [7]}]')
  expect(blocks(data, JOINED).blocks).toEqual([
    [1, 2, 3],
    [4, 5, 7],
  ])
})

test('the rule of short samples leaves out long and empty ones and stops at its number', async () => {
  const data = await file('data.json', '["abcd", "", "ab", "c", "abc"]')
  const short = blocks(data, SHORT)
  expect(short.blocks).toEqual([[1, 2, 3]])
  expect(short.summary).toBe('data.json: 1 blocks of 3 tokens from 2 of 5 samples, 1 longer than 3 tokens left out')
  const cut = blocks(data, SHORT, { truncate: true })
  expect(cut.blocks).toEqual([[1, 2, 3]])
  expect(cut.summary).toContain('1 cut to 3 tokens')
})

test('the rule of joining takes the first samples whole', async () => {
  const data = await file('data.json', '["abcd", "", "ab", "c", "abc"]')
  expect(blocks(data, { ...JOINED, samples: 2 }).blocks).toEqual([
    [1, 2, 3],
    [4, 1, 2],
  ])
})

test('a .txt is divided at its separators; one long piece is cut where it would be left out', async () => {
  const divided = await file('data.txt', 'ab\n<|endoftext|>\n c \n<|endoftext|>\n')
  expect(blocks(divided, SHORT).blocks).toEqual([[1, 2, 3]])
  const long = await file('data.txt', 'abcdefgh')
  expect(blocks(long, SHORT).blocks).toEqual([
    [1, 2, 3],
    [4, 5, 6],
  ])
})

test.each(['snappy', 'zstd', 'gzip', 'none'])('parquet: the column "text", compressed with %s', async (compression) => {
  const data = await fixture(`text-${compression}.parquet`)
  expect(data).toMatchObject({
    kind: 'samples',
    samples: ['once upon a time', 'there was a cat', 'and a dog'].map((text) => ({ kind: 'text', text })),
  })
})

test('parquet: columns of ids and of conversations', async () => {
  expect(await fixture('ids.parquet')).toMatchObject({ samples: [{ ids: [1, 2, 3] }, { ids: [4, 5] }] })
  expect(await fixture('messages.parquet')).toMatchObject({
    samples: [{ messages: [{ role: 'user', content: 'hi' }] }],
  })
})

test.each([
  ['data.csv', 'a,b', 'its name ends in none of'],
  ['data.json', '{"text": "a"}', 'it holds no array'],
  ['data.json', '[1]', 'element 0 is no sample'],
  ['data.json', '[{"input_ids": [1.5]}]', 'element 0 is no sample'],
  ['data.jsonl', '"a"\n{"text": 1}', 'line 2 is no sample'],
  ['data.jsonl', '"a"\n{', 'line 2: '],
  ['data.parquet', 'PAR1 but no more', 'as calibration data'],
])('%s with %s is refused', async (name, text, problem) => {
  await expect(file(name, text)).rejects.toThrow(problem)
})

test('parquet with two columns of text and no name that says which is refused with their names', async () => {
  await expect(fixture('two-columns.parquet')).rejects.toMatchObject({ fields: { columns: ['a', 'b'] } })
})

test('ids of another vocabulary, too little data, and a length beyond the context are refused by their numbers', async () => {
  const data = await file('data.json', '["ab", [3, 100]]')
  expect(() => blocks(data, JOINED)).toThrow('sample 1 has id 100, the model has 0 to 99')
  const little = await file('data.json', '["ab", "abcdef"]')
  expect(() => blocks(little, SHORT)).toThrow('1 of 2 samples give 2 tokens, 1 longer samples left out, a block has 3')
  expect(() => blocks(little, { cut: 'joined', length: 65 })).toThrow(
    "the length is 65, the model's context has 1 to 64 tokens",
  )
})
