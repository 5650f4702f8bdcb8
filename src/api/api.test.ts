import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { draftModel } from '../../test/support/model-files.ts'
import { FIXTURES, fixtureTensors, largestDifference, span } from '../../test/support/tensors.ts'
import {
  AutoModelForCausalLM,
  AutoTokenizer,
  BitsAndBytesConfig,
  ConfigError,
  type FileSet,
  GgufConfig,
  UnsupportedError,
} from '../index.ts'

const model = (name: string) => join(FIXTURES, 'transformers/models', name)
const EMBEDDED = join(import.meta.dirname, '../../models/stories-7m')
const device = 'reference'

async function expectedOf(name: string) {
  const tensors = await fixtureTensors(`transformers/models/${name}/expected.safetensors`)
  return { ints: (key: string) => tensors.get(key)!.ints(), floats: (key: string) => tensors.get(key)!.floats() }
}

describe('a model from a folder', async () => {
  const expected = await expectedOf('llama')

  test('gives logits and greedy tokens as the reference does', async () => {
    const lm = await AutoModelForCausalLM.fromPretrained(model('llama'), { device })
    const logits = await lm.logits(expected.ints('input_ids'))
    const reference = expected.floats('logits')
    expect(largestDifference(logits, reference).difference).toBeLessThan(span(reference) * 1e-5)
    const prompt = expected.ints('greedy_prompt')
    const { ids, finish } = await lm.generate(prompt, { maxNewTokens: 12, eosTokenId: null })
    expect(ids.slice(prompt.length)).toEqual(expected.ints('greedy_new_tokens'))
    expect(finish).toBe('length')
    lm.dispose()
  })

  test('runs on the default device as on the reference', async () => {
    const lm = await AutoModelForCausalLM.fromPretrained(model('llama'))
    const reference = expected.floats('logits')
    const logits = await lm.logits(expected.ints('input_ids'))
    expect(largestDifference(logits, reference).difference).toBeLessThan(span(reference) * 1e-5)
    lm.dispose()
  })

  test('refuses ids that are not in the vocabulary', async () => {
    const lm = await AutoModelForCausalLM.fromPretrained(model('llama'), { device })
    await expect(lm.logits([5, 256])).rejects.toThrow('Cannot run id 256: the vocabulary has the ids 0 to 255')
    await expect(lm.generate([])).rejects.toThrow(ConfigError)
  })

  test('a dtype casts first', async () => {
    const lm = await AutoModelForCausalLM.fromPretrained(model('llama-f32'), { device, dtype: 'bfloat16' })
    expect(lm.configJson.dtype).toBe('bfloat16')
    const reference = (await expectedOf('llama-f32')).floats('logits')
    const logits = await lm.logits((await expectedOf('llama-f32')).ints('input_ids'))
    const error = largestDifference(logits, reference).difference / span(reference)
    expect(error).toBeGreaterThan(1e-5)
    expect(error).toBeLessThan(0.05)
    await expect(AutoModelForCausalLM.fromPretrained(model('llama'), { device, dtype: 'int8' })).rejects.toThrow(
      'dtype is "int8", expected float32, float16, bfloat16',
    )
  })

  test('files in memory serve as well as a path', async () => {
    const files: FileSet = await draftModel('llama')
    const lm = await AutoModelForCausalLM.fromPretrained(files, { device })
    const logits = await lm.logits(expected.ints('input_ids'))
    expect(largestDifference(logits, expected.floats('logits')).difference).toBeLessThan(1e-3)
  })
})

describe('quantised while loading', async () => {
  const expected = await expectedOf('llama')
  const reference = expected.floats('logits')

  test.each([
    ['nf4', new BitsAndBytesConfig({ loadIn4bit: true, bnb4bitQuantType: 'nf4' }), 0.5],
    ['int8', new BitsAndBytesConfig({ bits: 8 }), 0.05],
    ['gguf q8_0', new GgufConfig({ type: 'q8_0' }), 0.05],
    ['gguf f32', new GgufConfig({ type: 'f32' }), 1e-5],
  ])('%s stays near the float model', async (_, quantizationConfig, limit) => {
    const lm = await AutoModelForCausalLM.fromPretrained(model('llama'), { device, quantizationConfig })
    const logits = await lm.logits(expected.ints('input_ids'))
    const error = largestDifference(logits, reference).difference / span(reference)
    expect(error).toBeLessThan(limit)
    if (limit > 1e-4) expect(error).toBeGreaterThan(1e-4)
  })

  test('another method than the stored one is refused, the same one is ignored with a warning', async () => {
    const stored = join(FIXTURES, 'gguf/models/b-q4_k_m.gguf')
    const other = AutoModelForCausalLM.fromPretrained(stored, {
      device,
      quantizationConfig: new BitsAndBytesConfig(),
    })
    await expect(other).rejects.toThrow(UnsupportedError)
    const same = await AutoModelForCausalLM.fromPretrained(stored, { device, quantizationConfig: new GgufConfig() })
    expect(same.warnings.join()).toContain('its own config is used, the given GgufConfig is not')
  })
})

describe('config classes', () => {
  test('an unknown option names the nearest one', () => {
    const options = { bnb4bitQuantTyp: 'nf4' } as object
    expect(() => new BitsAndBytesConfig(options)).toThrow(
      '"bnb4bitQuantTyp" is no option of BitsAndBytesConfig: did you mean "bnb4bitQuantType"?',
    )
  })

  test('an illegal value is a ConfigError', () => {
    expect(() => new GgufConfig({ type: 'q9_k' })).toThrow(ConfigError)
    expect(() => new BitsAndBytesConfig({ bits: 5 as 4 })).toThrow(ConfigError)
  })
})

test('the embedded model tells a story through its tokenizer', async () => {
  const tokenizer = await AutoTokenizer.fromPretrained(EMBEDDED)
  const lm = await AutoModelForCausalLM.fromPretrained(EMBEDDED, { device })
  const pieces: string[] = []
  for await (const { text } of lm.stream(tokenizer.encode('Once upon a time'), { maxNewTokens: 4, doSample: false }))
    pieces.push(text)
  expect(pieces.join('')).toMatch(/^, there was/)
})
