import { expect, test } from 'vitest'
import { fixtureJson } from '../../test/support/fixtures.ts'
import { ConfigError } from '../core/errors.ts'
import { automaticSkips, decideSkips, skipList } from './skip.ts'
import type { ModelInfo, TensorInfo } from './types.ts'

interface Skips {
  auto: { untied: string[]; tied: string[] }
  patterns: { patterns: string[]; converted: Record<string, boolean> }[]
}
interface Matching {
  modules_to_not_convert: { names: string[]; cases: { patterns: string[]; converted?: string[]; error?: string }[] }
}
const skips = await fixtureJson<Skips>('bitsandbytes/skips.json')
const { names, cases } = (await fixtureJson<Matching>('transformers/matching.json')).modules_to_not_convert

function model(tied: boolean, lastModule = tied ? 'model.norm' : 'lm_head'): ModelInfo {
  return { modelType: 'llama', tied, lastModule, layers: 1, heads: 1, kvHeads: 1, dtype: 'F32' }
}

const tensor = (name: string, role: TensorInfo['role']): TensorInfo => ({ name, role, shape: [8, 8], dtype: 'F32' })
const EMBEDDING = tensor('model.embed_tokens.weight', 'embedding')
const V_PROJ = tensor('model.layers.0.self_attn.v_proj.weight', 'linear')
const UP_PROJ = tensor('model.layers.0.mlp.up_proj.weight', 'linear')
const NORM = tensor('model.norm.weight', 'other')
const HEAD = tensor('lm_head.weight', 'head')
const UNTIED = [EMBEDDING, V_PROJ, UP_PROJ, NORM, HEAD]
const TIED = [EMBEDDING, V_PROJ, UP_PROJ, NORM]

test.each(skips.patterns)('the patterns $patterns convert what bitsandbytes converts', ({ patterns, converted }) => {
  const list = skipList(patterns, 'skip')
  const ours = Object.fromEntries(Object.keys(converted).map((name) => [name, list.match(name) === undefined]))
  expect(ours).toEqual(converted)
})

const stripped = (patterns: string[]) => patterns.some((p) => p.endsWith('.weight'))

test.each(cases.filter((c) => c.converted && !stripped(c.patterns)))(
  'the patterns $patterns convert what transformers converts',
  ({ patterns, converted }) => {
    const list = skipList(patterns, 'skip')
    expect(names.filter((name) => list.match(name) === undefined)).toEqual(converted)
  },
)

test('a trailing ".weight" is stripped, unlike in the reference', () => {
  expect(skipList(['lm_head.weight'], 'skip').match('lm_head')).toBe('lm_head.weight')
  expect(skipList(['.weight'], 'skip').match('lm_head')).toBeUndefined()
})

test('a bad regular expression is refused by pattern', () => {
  expect(() => skipList(['lm_head', '*'], 'llm_int8_skip_modules')).toThrow(ConfigError)
  expect(() => skipList(['lm_head', '*'], 'llm_int8_skip_modules')).toThrow(/llm_int8_skip_modules.*"\*"/)
})

test('named groups are read in Python spelling', () => {
  expect(skipList(['model\\.(?P<x>a)(?P=x)\\Z'], 'skip').match('model.aa')).toBeDefined()
})

test('the automatic list is the reference one', () => {
  expect(automaticSkips(UNTIED, model(false))).toEqual(skips.auto.untied)
  expect(automaticSkips(TIED, model(true))).toEqual(skips.auto.tied)
})

test('without a list the head stays float and the linears do not', () => {
  const { reasons, warnings } = decideSkips(UNTIED, model(false), null, 'skip')
  expect(reasons).toEqual([undefined, undefined, undefined, undefined, 'output head'])
  expect(warnings).toEqual([])
})

test('a list replaces the automatic one, with a warning where the head is quantised', () => {
  const { reasons, warnings } = decideSkips(UNTIED, model(false), ['v_proj'], 'skip')
  expect(reasons).toEqual([undefined, 'skipped by "v_proj" of skip', undefined, undefined, undefined])
  expect(warnings).toEqual(['lm_head is quantised: skip replaces the automatic list, which skips it'])
})

test('a tied head that the list does not name stays float, with a warning', () => {
  const { reasons, warnings } = decideSkips([...TIED, HEAD], model(true), [], 'skip')
  expect(reasons.at(-1)).toBe('tied to the embedding')
  expect(reasons[0]).toBe('output head, tied to the embedding')
  expect(warnings).toEqual(['lm_head is tied to the embedding: both stay float although skip does not name it'])
})

test('a pattern that matches nothing is a warning with what would match', () => {
  const { warnings } = decideSkips(UNTIED, model(false), ['layers.0.mlp', 'lm_head', 'model.norm'], 'skip')
  expect(warnings).toHaveLength(1)
  expect(warnings[0]).toContain('"layers.0.mlp" matches no module')
  expect(warnings[0]).toContain('".*layers.0.mlp" would skip model.layers.0.mlp.up_proj')
})
