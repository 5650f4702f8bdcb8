import { expect, test } from 'vitest'
import { ConfigError } from '../core/errors.ts'
import { fromPlain, type JsonObject, type PlainObject } from '../core/json.ts'
import { ConfigKeys, choice, flag, integer, names, orDefault, orNull } from './fields.ts'

const KEYS = new ConfigKeys('Example', {
  depth: integer(2, 1, 8, 'a number'),
  fast: flag(true, 'a flag'),
  kind: orDefault(choice('plain', ['plain', 'fancy'], 'a word')),
  skip: orNull(names(null, 'a list')),
})
const values = (given: PlainObject) => KEYS.values(fromPlain(given) as JsonObject)

test('keys that are missing have their defaults; null is one only where a field says so', () => {
  const defaults = { depth: fromPlain(2), fast: true, kind: 'plain', skip: null }
  expect(values({})).toEqual(defaults)
  expect(values({ kind: null, skip: null })).toEqual(defaults)
  expect(() => values({ depth: null })).toThrow('"depth" is null, expected an integer from 1 to 8')
  expect(() => values({ fast: null })).toThrow('"fast" is null, expected true or false')
})

test('flags are keys in any spelling, words their values', () => {
  expect(KEYS.fromFlags({ depth: '3', fast: 'false', skip: 'a,b', kind: undefined })).toEqual({
    depth: fromPlain(3),
    fast: false,
    skip: ['a', 'b'],
  })
  expect(KEYS.fromFlags({ skip: 'none' })).toEqual({ skip: null })
  expect(() => KEYS.fromFlags({ depth: '9' })).toThrow(ConfigError)
  expect(() => KEYS.fromFlags({ deep: 1 })).toThrow('"deep" is no option of Example: there are depth, fast, kind, skip')
})

test('other keys are said', () => {
  expect(KEYS.unknown({ depth: null, colour: null, quant_method: null }, ['quant_method'], 'ignored')).toEqual([
    '"colour" is no key of Example: it is ignored',
  ])
})
