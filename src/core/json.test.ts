import { describe, expect, test } from 'vitest'
import { FileError } from './errors.ts'
import {
  byCodePoint,
  checkDepth,
  isJsonObject,
  type JsonNumber,
  parseJson,
  parseJsonObject,
  pythonFloat,
  toPlain,
  writeJson,
} from './json.ts'

const parse = (text: string) => parseJson(text, 'x.json')

test('numbers keep their spelling, keys are sorted, text is ASCII', () => {
  const text = '{"b": 1e-06, "a": [10000.0, -0, 1E5], "é😀": "\\u00e9\\n\u007f", "n": {}, "l": []}'
  expect(writeJson(parse(text))).toBe(
    [
      '{',
      '  "a": [\n    10000.0,\n    -0,\n    1E5\n  ],',
      '  "b": 1e-06,',
      '  "l": [],',
      '  "n": {},',
      '  "\\u00e9\\ud83d\\ude00": "\\u00e9\\n\\u007f"',
      '}',
    ].join('\n'),
  )
})

test("Python's NaN and infinities are read and written", () => {
  expect(writeJson(parse('[NaN, Infinity, -Infinity]'))).toBe('[\n  NaN,\n  Infinity,\n  -Infinity\n]')
  expect(toPlain(parse('[NaN, -Infinity]'))).toEqual([Number.NaN, -Infinity])
})

test.each([
  [1e-5, '1e-05'],
  [0.0001, '0.0001'],
  [1e16, '1e+16'],
  [123456789012345680, '1.2345678901234568e+17'],
  [1, '1.0'],
  [-0, '-0.0'],
  [0.1, '0.1'],
])('%d is written %s, as Python does', (value, text) => {
  expect(pythonFloat(value)).toBe(text)
})

describe('damage is refused with its place', () => {
  test.each([
    ['a key twice', '{"a": 1, "a": 2}', /key "a" occurs twice/],
    ['an escaped key twice', '{"a": 1, "\\u0061": 2}', /key "a" occurs twice/],
    ['__proto__ twice', '{"__proto__": 1, "__proto__": 2}', /occurs twice/],
    ['text after the end', '{} x', /found text after the end/],
    ['no value', '{"a": }', /expected a value/],
    ['a leading zero', '[01]', /expected "," or "\]"/],
    ['a trailing comma', '[1,]', /expected a value/],
    ['a string without end', '["a', /a string does not end/],
    ['a control character', '["\u0001"]', /illegal escape or control/],
    ['an illegal escape', '["\\x"]', /illegal escape/],
    ['nothing', '', /ends too early/],
    ['100,000 arrays', '['.repeat(100_000), /deeper than 128 at character/],
    ['100,000 objects', '{"a":'.repeat(100_000), /deeper than 128/],
  ])('%s', (_, text, message) => {
    let error: unknown
    try {
      parse(text)
    } catch (e) {
      error = e
    }
    expect(error).toBeInstanceOf(FileError)
    expect((error as FileError).message).toMatch(message)
    expect((error as FileError).fields).toMatchObject({ file: 'x.json', offset: expect.any(Number) })
  })
})

test("an object's own names do not come from its prototype", () => {
  const value = parseJsonObject('{"toString": 1, "__proto__": {"a": 2}}', 'x.json')
  expect(Object.keys(value)).toEqual(['toString', '__proto__'])
  expect(value.constructor).toBeUndefined()
  expect(isJsonObject(Object.values(value)[1])).toBe(true)
})

test('checkDepth looks past strings and refuses what would overflow a stack', () => {
  checkDepth(`["${'['.repeat(1000)}\\"[", ${'[],'.repeat(1000)} 0]`, 'x.json')
  expect(() => checkDepth('['.repeat(100_000), 'x.json')).toThrow(/deeper than 128 at character 128/)
})

test('a large vocabulary takes a small multiple of what JSON.parse takes', () => {
  const entries = Array.from({ length: 100_000 }, (_, i) => `"token\\u0120${i}": ${i}`)
  const text = `{"model": {"vocab": {${entries.join(', ')}}}}`
  const started = performance.now()
  JSON.parse(text)
  const parsed = performance.now()
  const { model } = parseJsonObject(text, 'tokenizer.json')
  const { vocab } = model as { vocab: Record<string, JsonNumber> }
  expect(vocab.tokenĠ99999.text).toBe('99999')
  expect(performance.now() - parsed).toBeLessThan(1000 + 20 * (parsed - started))
})

test('names sort by code point, not by UTF-16 unit', () => {
  expect(['\ufffd', '😀', 'a', 'ab'].sort(byCodePoint)).toEqual(['a', 'ab', '\ufffd', '😀'])
})
