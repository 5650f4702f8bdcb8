import { beforeAll, describe, expect, test } from 'vitest'
import { fixtureJson } from '../../test/support/fixtures.ts'
import { type FixtureTensor, fixtureTensors } from '../../test/support/tensors.ts'
import { readGenerationConfig, resolveSettings } from './config.ts'
import { processorsOf } from './processors.ts'
import { probabilities } from './select.ts'
import type { Processor } from './types.ts'

interface Cases {
  readonly prompt_length: number
  readonly cases: Record<string, { config: Record<string, unknown>; processors: string[] }>
}

const { prompt_length, cases } = await fixtureJson<Cases>('transformers/processors.json')
const ROWS = 4

/** The reference's class of each of our processors. */
const CLASS_OF: Readonly<Record<string, string>> = {
  sequence_bias: 'SequenceBiasLogitsProcessor',
  repetition_penalty: 'RepetitionPenaltyLogitsProcessor',
  no_repeat_ngram_size: 'NoRepeatNGramLogitsProcessor',
  bad_words_ids: 'NoBadWordsLogitsProcessor',
  min_length: 'MinLengthLogitsProcessor',
  min_new_tokens: 'MinNewTokensLengthLogitsProcessor',
  exponential_decay_length_penalty: 'ExponentialDecayLengthPenalty',
  suppress_tokens: 'SuppressTokensLogitsProcessor',
  begin_suppress_tokens: 'SuppressTokensAtBeginLogitsProcessor',
  temperature: 'TemperatureLogitsWarper',
  top_h: 'TopHLogitsWarper',
  top_k: 'TopKLogitsWarper',
  top_p: 'TopPLogitsWarper',
  min_p: 'MinPLogitsWarper',
  typical_p: 'TypicalLogitsWarper',
  epsilon_cutoff: 'EpsilonLogitsWarper',
  eta_cutoff: 'EtaLogitsWarper',
  renormalize_logits: 'LogitNormalization',
}

let tensors: ReadonlyMap<string, FixtureTensor>
beforeAll(async () => {
  tensors = await fixtureTensors('transformers/processors.safetensors')
})

function rowsOf(name: string): Float32Array[] {
  const values = tensors.get(name)!.floats()
  return Array.from({ length: ROWS }, (_, r) =>
    values.slice((r * values.length) / ROWS, ((r + 1) * values.length) / ROWS),
  )
}

function idsOf(row: number): number[] {
  const ids = tensors.get('input_ids')!.ints()
  return ids.slice((row * ids.length) / ROWS, ((row + 1) * ids.length) / ROWS)
}

function processorsFor(stored: Record<string, unknown>): Processor[] {
  const config = resolveSettings({}, readGenerationConfig(stored).settings)
  return processorsOf(config, { promptLength: prompt_length, maxLength: 1000 })
}

/** top_p at 0.9 cuts through 41 equal scores of row 1, whose order the reference's sort leaves open: it keeps eleven others of them. */
const OPEN_TIES: Readonly<Record<string, number>> = { 'top_p_0.9': 1 }

/** -Infinity in the same places, everything else within 1e-5. */
function expectScores(actual: readonly Float32Array[], expected: readonly Float32Array[]): void {
  const out = (rows: readonly Float32Array[]) =>
    rows.map((row) => Array.from(row, (x, i) => (x === -Infinity ? i : -1)).filter((i) => i >= 0))
  expect(out(actual)).toEqual(out(expected))
  actual.forEach((row, r) => {
    row.forEach((x, i) => {
      const want = expected[r][i]
      if (want !== -Infinity && !(Math.abs(x - want) <= 1e-5 * Math.max(1, Math.abs(want))))
        expect.fail(`row ${r}, id ${i}: ${x}, expected ${want}`)
    })
  })
}

test('the fixture holds 29 settings', () => {
  expect(Object.keys(cases)).toHaveLength(29)
})

describe.each(Object.keys(cases))('%s', (name) => {
  const { config, processors: expected } = cases[name]

  test('has the processors of the reference, in its order', () => {
    expect(processorsFor(config).map((p) => CLASS_OF[p.name])).toEqual(expected)
  })

  test('gives the scores and probabilities of the reference', () => {
    const rows = rowsOf('logits')
    for (const processor of processorsFor(config)) rows.forEach((row, r) => void processor.apply(idsOf(r), row))
    const chances = rows.map((row) => Float32Array.from(probabilities(row, Array.from(row.keys()))))
    const expectedScores = rowsOf(`${name}.scores`)
    const expectedChances = rowsOf(`${name}.probs`)
    const tied = OPEN_TIES[name]
    if (tied !== undefined) {
      expect(rows[tied]).not.toEqual(expectedScores[tied])
      for (const list of [rows, chances, expectedScores, expectedChances]) list[tied].sort()
    }
    expectScores(rows, expectedScores)
    expectScores(chances, expectedChances)
  })
})

test('each step of a long chain gives the scores of the reference', () => {
  const rows = rowsOf('logits')
  const chain = processorsFor(cases.all.config)
  expect(chain).toHaveLength(9)
  chain.forEach((processor, n) => {
    rows.forEach((row, r) => void processor.apply(idsOf(r), row))
    expectScores(rows, rowsOf(`all.step${n + 1}`))
  })
})

test('forced tokens are the only ones left', () => {
  const [bos, eos] = processorsOf(resolveSettings({ forcedBosTokenId: 2, forcedEosTokenId: [1, 3] }), {
    promptLength: 1,
    maxLength: 5,
  })
  const scores = () => Float32Array.of(1, 2, 3, 4)
  const first = scores()
  bos.apply([9], first)
  expect([...first]).toEqual([-Infinity, -Infinity, 0, -Infinity])
  const last = scores()
  eos.apply([9, 9, 9], last)
  expect([...last]).toEqual([1, 2, 3, 4])
  eos.apply([9, 9, 9, 9], last)
  expect([...last]).toEqual([-Infinity, 0, -Infinity, 0])
})

test('invalid values are removed where asked', () => {
  const [remove] = processorsOf(resolveSettings({ removeInvalidValues: true }), { promptLength: 1, maxLength: 5 })
  const scores = Float32Array.of(Number.NaN, Infinity, -Infinity, 1)
  remove.apply([], scores)
  expect([...scores]).toEqual([0, 3.4028234663852886e38, -3.4028234663852886e38, 1])
})
