import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { fixtureJson } from '../../test/support/fixtures.ts'
import { compileModel } from '../../test/support/models.ts'
import { fixtureTensors } from '../../test/support/tensors.ts'
import { readTokenizer } from '../../test/support/tokenizer-fixtures.ts'
import type { Executable } from '../backends/types.ts'
import { textPieces } from '../text/pieces.ts'
import { tokenizerFromJson } from '../text/tokenizer.ts'
import { evaluateDivergence } from './divergence.ts'
import { score } from './forward.ts'
import { negativeLogLikelihoods } from './likelihood.ts'
import { evaluatePerplexity } from './perplexity.ts'
import { planWindows, type Window } from './recipes.ts'
import { evaluationIds, llamaIds } from './text.ts'

interface Reference {
  readonly windows_begin_end_target_counted_loss: [number, number, number, number, number][]
  readonly tokens: number
  readonly perplexity: number
}

const reference = await fixtureJson<{ 'max_length/stride': Record<string, Reference> }>('transformers/perplexity.json')
const ids = (await fixtureTensors('transformers/perplexity.safetensors')).get('input_ids')!.ints()
const llama = await compileModel('transformers/models/llama')
const VOCABULARY = 256

async function nllsOf(model: Executable, window: Window, vocabulary = VOCABULARY): Promise<number[]> {
  const out: number[] = []
  for await (const { logits, targets } of score(model, window, vocabulary))
    out.push(...negativeLogLikelihoods(logits, targets))
  return out
}

const relative = (a: number, b: number) => Math.abs(a - b) / Math.abs(b)

describe.each(Object.keys(reference['max_length/stride']))('recipe transformers, window/stride %s', (name) => {
  const expected = reference['max_length/stride'][name]
  const [window, stride] = name.split('/').map(Number)
  const plan = planWindows('transformers', ids, 1024, { window, stride })

  test('has the windows and losses of the reference', async () => {
    const rows = expected.windows_begin_end_target_counted_loss
    expect(plan.map((w) => [w.ids.length, w.counted])).toEqual(rows.map(([b, e, , counted]) => [e - b, counted]))
    for (const [i, window] of plan.entries()) {
      const nlls = await nllsOf(llama, window)
      const mean = nlls.reduce((a, b) => a + b, 0) / nlls.length
      expect(relative(mean, rows[i][4])).toBeLessThan(1e-5)
    }
  })

  test('gives its perplexity', async () => {
    const result = await evaluatePerplexity(llama, plan, VOCABULARY)
    expect(result.tokens).toBe(expected.tokens)
    expect(relative(result.perplexity, expected.perplexity)).toBeLessThan(1e-4)
  })
})

describe('recipe windows', () => {
  test('counts every prediction inside windows and drops the remainder', async () => {
    const plan = planWindows('windows', ids, 1024, { window: 25 })
    expect(plan.map((w) => [w.ids[0], w.firstTarget, w.counted])).toEqual([0, 25, 50, 75].map((at) => [ids[at], 1, 24]))
    const all: number[] = []
    for (const window of plan) all.push(...(await nllsOf(llama, window)))
    const mean = all.reduce((a, b) => a + b, 0) / all.length
    const result = await evaluatePerplexity(llama, plan, VOCABULARY)
    expect(result.tokens).toBe(96)
    expect(relative(result.nll, mean)).toBeLessThan(1e-12)
  })

  test('a text shorter than a window and a window beyond the context are refused', () => {
    expect(() => planWindows('windows', ids, 1024)).toThrow('less than one window of 512')
    expect(() => planWindows('windows', ids, 64, { window: 65 })).toThrow("2 to the model's context of 64")
    expect(planWindows('windows', ids, 64)).toHaveLength(1)
  })
})

describe('recipe llama', () => {
  test('begins each window with bos and counts its second half', () => {
    const plan = planWindows('llama', ids, 1024, { window: 32, bosId: 1 })
    expect(plan).toHaveLength(3)
    expect(plan[1].ids).toEqual([1, ...ids.slice(33, 64)])
    expect(plan.map((w) => [w.firstTarget, w.counted])).toEqual([17, 17, 17].map((n) => [n, 15]))
    expect(planWindows('llama', ids, 1024, { window: 32 })[1].ids).toEqual(ids.slice(32, 64))
    expect(() => planWindows('llama', ids, 1024, { window: 60 })).toThrow('need at least 120')
  })

  test('reads a file as it stands: special tokens are text, one line break at the end is dropped', () => {
    const gpt2 = readTokenizer('gpt2')
    const { ids: read, bosId } = llamaIds('a<|endoftext|>b\n\n', gpt2)
    expect(gpt2.decode(read)).toBe('a<|endoftext|>b\n')
    expect(read).not.toContain(0)
    expect(bosId).toBeUndefined()
    const withBos = llamaIds('a', readTokenizer('llama3'))
    expect([withBos.ids[0], withBos.bosId]).toEqual([0, 0])
  })
})

describe('an evaluation text', () => {
  test('is cut at lines that are only <|endoftext|>', () => {
    expect(textPieces(' a\nb \n<|endoftext|>\n\n  <|endoftext|> \nc <|endoftext|>\n')).toEqual([
      'a\nb',
      'c <|endoftext|>',
    ])
  })

  test('ends each piece with that token, or with eos where there is none', () => {
    const gpt2 = readTokenizer('gpt2')
    const a = gpt2.idOf('a')!
    expect(evaluationIds('a\n<|endoftext|>\na', gpt2, 7)).toEqual([a, 0, a, 0])
    const gemma = readTokenizer('gemma')
    expect(evaluationIds('a', gemma, 2)).toEqual([...gemma.encode('a', { addSpecialTokens: false }), 2])
  })

  test('of the embedded model has 56,832 ids in 111 windows', () => {
    const root = resolve(import.meta.dirname, '../../models')
    const read = (path: string) => readFileSync(`${root}/${path}`, 'utf8')
    const tokenizer = tokenizerFromJson(read('stories-7m/tokenizer.json'), read('stories-7m/tokenizer_config.json'))
    const plan = planWindows('windows', evaluationIds(read('data/eval.txt'), tokenizer, undefined), 512)
    expect(plan.reduce((sum, w) => sum + w.counted, 0)).toBe(56_721)
  })
})

describe('pieces of a window', () => {
  test('give the same numbers as the whole', async () => {
    const window = { ids: ids.slice(0, 40), firstTarget: 17, counted: 23 }
    const whole = await nllsOf(llama, window)
    expect(whole).toHaveLength(24 - 1)
    // A vocabulary so large that each piece holds 4 rows.
    const split = await nllsOf(llama, window, 1 << 24)
    expect(split).toEqual(whole)
  })
})

describe('divergence', () => {
  /** Predicts by a table [V, V], whatever came before. */
  const table = (rows: number[][]): Executable => ({
    ...llama,
    run: async (batch) => Float32Array.from([...batch.outputs].flatMap((r) => rows[batch.ids[r]])),
    truncate: () => {},
  })
  const p = [0.5, 0.25, 0.25]
  const q = [0.25, 0.5, 0.25]
  const logs = (x: number[]) => x.map((v) => Math.log(v) + 3)
  const window = { ids: [0, 1, 0, 2], firstTarget: 1, counted: 3 }

  test('of a model from itself is nothing, and all tops agree', async () => {
    const plan = planWindows('windows', ids, 1024, { window: 32 })
    const result = await evaluateDivergence(llama, await compileModel('transformers/models/llama'), plan, VOCABULARY)
    expect(result.maxDivergence).toBeLessThan(1e-12)
    expect(result.topAgreement).toBe(1)
    expect(result.model).toEqual(result.baseline)
    expect(result.model).toEqual(await evaluatePerplexity(llama, plan, VOCABULARY))
  })

  test('is sum p log(p / q)', async () => {
    const base = table([logs(p), logs(p), logs(p)])
    const other = table([logs(q), logs(p), logs(q)])
    const result = await evaluateDivergence(base, other, [window], 3)
    const kl = 0.5 * Math.log(2) - 0.25 * Math.log(2)
    expect(result.meanDivergence).toBeCloseTo((2 * kl) / 3, 6)
    expect(result.medianDivergence).toBeCloseTo(kl, 6)
    expect(result.maxDivergence).toBeCloseTo(kl, 6)
    expect(result.topAgreement).toBeCloseTo(1 / 3, 12)
    expect(result.baseline.nll).toBeCloseTo(-(Math.log(0.25) + Math.log(0.5) + Math.log(0.25)) / 3, 6)
    expect(result.model.nll).toBeCloseTo(-(Math.log(0.5) + Math.log(0.5) + Math.log(0.25)) / 3, 6)
  })

  test('reports progress and stops at an aborted signal', async () => {
    const events: unknown[] = []
    const base = table([logs(p), logs(p), logs(p)])
    await evaluateDivergence(base, base, [window, window], 3, { onEvent: (e) => events.push(e) })
    expect(events).toMatchObject([
      { done: 1, total: 2, divergence: 0 },
      { done: 2, total: 2 },
    ])
    const signal = AbortSignal.abort()
    await expect(evaluateDivergence(base, base, [window], 3, { signal })).rejects.toThrow('aborted')
  })
})

test('the standard error is that of the mean, in units of perplexity', async () => {
  const uneven: Executable = {
    ...llama,
    run: async (batch) => Float32Array.from([...batch.outputs].flatMap((r) => (batch.ids[r] === 0 ? [0, 0] : [0, 2]))),
    truncate: () => {},
  }
  const { standardError, perplexity, nll } = await evaluatePerplexity(
    uneven,
    [{ ids: [0, 1, 1], firstTarget: 1, counted: 2 }],
    2,
  )
  const values = [Math.log(2), Math.log(1 + Math.exp(-2))]
  expect(nll).toBeCloseTo((values[0] + values[1]) / 2, 6)
  expect(standardError).toBeCloseTo((perplexity * Math.abs(values[0] - values[1])) / 2, 6)
})
