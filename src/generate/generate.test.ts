import { describe, expect, test } from 'vitest'
import { fixtureJson } from '../../test/support/fixtures.ts'
import { compileModel } from '../../test/support/models.ts'
import { fixtureTensors } from '../../test/support/tensors.ts'
import { readTokenizer } from '../../test/support/tokenizer-fixtures.ts'
import type { Executable, RowBatch } from '../backends/types.ts'
import { readGenerationConfig } from './config.ts'
import { generate, sample, stream } from './generate.ts'
import { randomFrom } from './random.ts'
import { Sequences } from './sequences.ts'
import type { GenerationModel, StreamPiece } from './types.ts'

const { cases } = await fixtureJson<{ cases: Record<string, Record<string, unknown>> }>('transformers/generation.json')
const tensors = await fixtureTensors('transformers/generation.safetensors')
const llama: GenerationModel = { executable: await compileModel('transformers/models/llama'), contextLength: 64 }

function matrix(name: string): number[][] {
  const { shape, ints } = tensors.get(name)!
  const values = ints()
  return Array.from({ length: shape[0] }, (_, r) => values.slice(r * shape[1], (r + 1) * shape[1]))
}

const mask = matrix('attention_mask')
const prompts = matrix('prompt').map((row, r) => row.filter((_, i) => mask[r][i] === 1))

describe.each(Object.keys(cases))('generation setting %s', (name) => {
  test('gives the sequences of the reference', async () => {
    const { settings } = readGenerationConfig(cases[name])
    const result = await generate(llama, prompts, settings)
    const expected = matrix(`${name}.sequences`)
    expect(result).toHaveLength(expected.length)
    const copies = expected.length / prompts.length
    const scores = tensors.get(`${name}.sequences_scores`)?.floats()
    result.forEach(({ ids, promptLength, finish, score }, i) => {
      // The reference pads on the left to the longest prompt, and on the right to the longest result.
      const padding = mask[0].length - promptLength
      expect(prompts[Math.floor(i / copies)]).toEqual(ids.slice(0, promptLength))
      expect(ids).toEqual(expected[i].slice(padding, padding + ids.length))
      const fill = expected[i].slice(padding + ids.length)
      const eos = [settings.eosTokenId ?? []].flat()
      if (finish === 'eos') expect(eos).toContain(ids.at(-1))
      expect(fill.filter((id) => id !== 0 && id !== eos[0])).toEqual([])
      if (finish !== 'eos') expect(fill).toEqual([])
      if (scores) expect(Math.abs(score! - scores[i])).toBeLessThan(1e-4)
    })
  })
})

test('the fixture holds 14 settings on prompts of two lengths', () => {
  expect(Object.keys(cases)).toHaveLength(14)
  expect(new Set(prompts.map((p) => p.length)).size).toBe(2)
})

/** Says the scripted ids one after the other, whatever it is given: position p is followed by script[p]. */
function scripted(script: readonly number[], vocabulary = 600): Executable & { readonly batches: RowBatch[] } {
  const batches: RowBatch[] = []
  return {
    batches,
    run: async (batch) => {
      batches.push(batch)
      const out = new Float32Array(batch.outputs.length * vocabulary)
      batch.outputs.forEach((row, i) => {
        out[i * vocabulary + script[batch.positions[row]]] = 1
      })
      return out
    },
    tap: () => new Float32Array(0),
    truncate: () => {},
    memory: () => ({ weightBytes: 0, cacheBytes: 0 }),
    kernels: () => [],
    dispose: () => {},
  }
}

async function collect(pieces: AsyncIterable<StreamPiece>): Promise<StreamPiece[]> {
  const out: StreamPiece[] = []
  for await (const piece of pieces) out.push(piece)
  return out
}

describe('where a sequence ends', () => {
  const model = (script: number[], contextLength = 100) => ({ executable: scripted(script), contextLength })
  const script = Array.from({ length: 100 }, (_, i) => i + 1)

  test('after 20 new tokens where nothing is said', async () => {
    const [result] = await generate(model(script), [[7]])
    expect(result).toMatchObject({ finish: 'length', promptLength: 1 })
    expect(result.ids).toHaveLength(21)
  })

  test('at the end of the context, and it says so', async () => {
    const [result] = await generate(model(script, 8), [[7, 7, 7]], { maxNewTokens: 50 })
    expect(result).toMatchObject({ ids: [7, 7, 7, 3, 4, 5, 6, 7], finish: 'context' })
  })

  test('the same number of tokens that also fills the context is no early end', async () => {
    const [result] = await generate(model(script, 8), [[7, 7, 7]], { maxNewTokens: 5 })
    expect(result.finish).toBe('length')
  })

  test('at an end token, which is kept', async () => {
    const [result] = await generate(model(script), [[7]], { eosTokenId: [90, 4] })
    expect(result).toMatchObject({ ids: [7, 1, 2, 3, 4], finish: 'eos' })
  })

  test('maxLength counts the prompt, and maxNewTokens wins over it', async () => {
    expect((await generate(model(script), [[7, 7]], { maxLength: 4 }))[0].ids).toHaveLength(4)
    expect((await generate(model(script), [[7, 7]], { maxLength: 4, maxNewTokens: 6 }))[0].ids).toHaveLength(8)
    await expect(generate(model(script), [[7, 7]], { maxLength: 2 })).rejects.toThrow('maxLength is 2')
  })

  test('a call wins over generation_config.json, null switches off', async () => {
    const defaults = { eosTokenId: 3, maxNewTokens: 5 }
    const [a] = await generate({ ...model(script), defaults }, [[7]])
    expect(a.ids).toEqual([7, 1, 2, 3])
    const [b] = await generate({ ...model(script), defaults }, [[7]], { eosTokenId: null, maxNewTokens: 2 })
    expect(b.ids).toEqual([7, 1, 2])
    const [c] = await generate({ ...model(script), defaults }, [[7]], { eosTokenId: null })
    expect(c.ids).toHaveLength(6)
  })

  test('a prompt that fills the context and an empty prompt are refused', async () => {
    await expect(generate(model(script, 2), [[7, 7]])).rejects.toThrow("the model's context ends at 2")
    await expect(generate(model(script), [[]])).rejects.toThrow('empty prompt')
  })

  test('an aborted signal ends it before the next step', async () => {
    const stop = new AbortController()
    const executable = scripted(script)
    const pieces = stream({ executable, contextLength: 100 }, [7], { signal: stop.signal })
    await pieces.next()
    stop.abort()
    await expect(pieces.next()).rejects.toThrow('aborted')
    expect(executable.batches).toHaveLength(1)
  })
})

describe('stop strings', () => {
  const tokenizer = readTokenizer('gpt2')
  const said = (text: string) => {
    const ids = tokenizer.encode(text)
    const prompt = ids.slice(0, 1)
    return { prompt, model: { executable: scripted(ids.slice(1), 520), contextLength: 200, tokenizer } }
  }

  test('end a sequence at the token that completes one', async () => {
    const { model, prompt } = said('Once upon a time. Then')
    const [result] = await generate(model, [prompt], { stopStrings: [' zzz', 'time.'], maxNewTokens: 40 })
    expect(result.finish).toBe('stop')
    expect(tokenizer.decode(result.ids)).toBe('Once upon a time.')
  })

  test('may end inside a character of several tokens and begin in the prompt', async () => {
    const { model, prompt } = said('ж好 and more')
    const [result] = await generate(model, [prompt], { stopStrings: 'ж好', maxNewTokens: 40 })
    expect(tokenizer.decode(result.ids)).toBe('ж好')
  })

  test('do not count where they end before the last token', async () => {
    const { model } = said('x')
    const prompt = tokenizer.encode('stop')
    const executable = scripted(
      Array.from({ length: 100 }, () => tokenizer.idOf('x')!),
      520,
    )
    const [result] = await generate({ ...model, executable }, [prompt], { stopStrings: 'stop', maxNewTokens: 3 })
    expect(result.finish).toBe('length')
  })

  test('need a tokenizer', async () => {
    const model = { executable: scripted([1, 2]), contextLength: 10 }
    await expect(generate(model, [[0]], { stopStrings: 'a' })).rejects.toThrow('without a tokenizer')
  })
})

describe('streams', () => {
  const tokenizer = readTokenizer('smollm2')

  test('give texts that join to the decoded text, none for special tokens, the reason with the last', async () => {
    const ids = [...tokenizer.encode('x naïve 😀!'), tokenizer.idOf('<|im_end|>')!]
    const model = { executable: scripted(ids.slice(1), 520), contextLength: 200, tokenizer }
    const pieces = await collect(stream(model, ids.slice(0, 1), { eosTokenId: 2, maxNewTokens: 90 }))
    expect(pieces.map((p) => p.id)).toEqual(ids.slice(1))
    expect(pieces.map((p) => p.text).join('')).toBe(' naïve 😀!')
    expect(pieces.map((p) => p.text).filter((text) => text.includes('\ufffd'))).toEqual([])
    expect(pieces.at(-1)).toEqual({ id: 2, text: '', finish: 'eos' })
    expect(pieces.filter((p) => p.finish)).toHaveLength(1)
  })

  test('give what generate gives', async () => {
    const [expected] = await generate(llama, prompts.slice(0, 1), { maxNewTokens: 8 })
    const pieces = await collect(stream(llama, prompts[0], { maxNewTokens: 8 }))
    expect([...prompts[0], ...pieces.map((p) => p.id)]).toEqual(expected.ids)
  })
})

describe('sampling', () => {
  test('follows the seed, and a batch does not change a row', async () => {
    const settings = { doSample: true, temperature: 1.3, maxNewTokens: 12, seed: 5 }
    const [first, second] = await generate(llama, prompts, settings)
    const again = await generate(llama, prompts, settings)
    expect(again).toEqual([first, second])
    expect(await generate(llama, prompts.slice(0, 1), settings)).toEqual([first])
    expect(await generate(llama, prompts, { ...settings, seed: 6 })).not.toEqual([first, second])
  })

  test('gives several sequences a prompt', async () => {
    const results = await generate(llama, prompts, { doSample: true, numReturnSequences: 3, maxNewTokens: 6, seed: 1 })
    expect(results.map((r) => r.promptLength)).toEqual(prompts.flatMap((p) => [p.length, p.length, p.length]))
    expect(new Set(results.slice(0, 3).map((r) => r.ids.join())).size).toBeGreaterThan(1)
  })

  test('draws each id as often as its probability says', () => {
    const random = randomFrom(1)
    const scores = Float32Array.of(Math.log(0.1), -Infinity, Math.log(0.6), Math.log(0.3))
    const counts = [0, 0, 0, 0]
    for (let i = 0; i < 20_000; i++) counts[sample(scores, random)]++
    expect(counts[1]).toBe(0)
    expect(counts[0] / 20_000).toBeCloseTo(0.1, 1.7)
    expect(counts[2] / 20_000).toBeCloseTo(0.6, 1.7)
    expect(counts[3] / 20_000).toBeCloseTo(0.3, 1.7)
  })
})

describe('the cache', () => {
  test('computes only the tokens that differ from what a slot holds', async () => {
    const executable = scripted(Array.from({ length: 20 }, (_, i) => i))
    const sequences = new Sequences(executable)
    await sequences.next([{ slot: 0, ids: [1, 2, 3] }])
    await sequences.next([{ slot: 0, ids: [1, 2, 3, 4] }])
    await sequences.next([{ slot: 0, ids: [1, 2, 9] }])
    await sequences.next([{ slot: 0, ids: [1, 2, 9] }])
    expect(executable.batches.map((b) => [...b.positions])).toEqual([[0, 1, 2], [3], [2], [2]])
    expect(executable.batches.map((b) => b.phase)).toEqual(['prefill', 'decode', 'decode', 'decode'])
  })

  test('runs new prompts and single steps apart, so that neither changes the other', async () => {
    const executable = scripted(Array.from({ length: 20 }, (_, i) => i))
    const sequences = new Sequences(executable)
    await sequences.next([{ slot: 0, ids: [1, 2] }])
    const requests = [
      { slot: 0, ids: [1, 2, 3] },
      { slot: 1, ids: [5, 6, 7, 8] },
    ]
    const scores = await sequences.next(requests)
    expect(executable.batches.slice(1).map((b) => [b.phase, [...b.slots]])).toEqual([
      ['prefill', [1, 1, 1, 1]],
      ['decode', [0]],
    ])
    expect(scores.map((row) => row.indexOf(1))).toEqual([2, 3])
  })

  test('is dropped once where the frequencies change', async () => {
    const executable = scripted(Array.from({ length: 20 }, (_, i) => i))
    const sequences = new Sequences(executable, 4)
    for (const length of [2, 3, 4, 5]) await sequences.next([{ slot: 0, ids: Array.from({ length }, (_, i) => i) }])
    expect(executable.batches.map((b) => b.ids.length)).toEqual([2, 1, 4, 1])
  })

  test('stays for the next call where sequences are given', async () => {
    const executable = scripted(Array.from({ length: 40 }, (_, i) => i + 1))
    const sequences = new Sequences(executable)
    const model = { executable, contextLength: 40 }
    const [first] = await generate(model, [[5, 5]], { maxNewTokens: 3, sequences })
    const before = executable.batches.length
    await generate(model, [[...first.ids, 8, 9]], { maxNewTokens: 1, sequences })
    expect(executable.batches[before].positions[0]).toBe(first.ids.length - 1)
  })
})

test('illegal settings are refused by name', async () => {
  await expect(generate(llama, prompts, { temperature: 0 })).rejects.toThrow('"temperature" is 0')
  await expect(generate(llama, prompts, { topP: 1.5 })).rejects.toThrow('"topP" is 1.5')
  await expect(generate(llama, prompts, { numReturnSequences: 2 })).rejects.toThrow('Cannot return 2 sequences')
  expect(() => readGenerationConfig({ top_k: 'many' })).toThrow('"top_k" is "many"')
  const { warnings } = readGenerationConfig({ guidance_scale: 2, num_beam_groups: 1, penalty_alpha: null })
  expect(warnings).toEqual([expect.stringContaining('guidance_scale')])
})
