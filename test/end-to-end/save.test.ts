// The life cycle of a model through the public API: load, quantise, save, load again, restore; and a method of one's own in it.
import { createHash } from 'node:crypto'
import { cp, mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import {
  AutoModelForCausalLM,
  BitsAndBytesConfig,
  FileError,
  GgufConfig,
  HqqConfig,
  methods,
  QuantizationConfig,
  registerMethod,
} from '../../src/index.ts'
import { rows } from '../support/row-method.ts'
import { FIXTURES } from '../support/tensors.ts'

const MODEL = join(FIXTURES, 'gguf/models/hf/llama')
const IDS = [5, 17, 42, 99, 130, 7, 201, 33]
const device = 'reference'
const folder = await mkdtemp(join(tmpdir(), 'fewbit-save-'))
afterAll(() => rm(folder, { recursive: true, force: true }))

/** Hash of every file of a folder, by name. */
async function contents(path: string): Promise<Record<string, string>> {
  const names = (await readdir(path)).sort()
  return Object.fromEntries(
    await Promise.all(
      names.map(async (name) => [
        name,
        createHash('sha256')
          .update(await readFile(join(path, name)))
          .digest('hex'),
      ]),
    ),
  )
}

describe('an unchanged model', () => {
  test.each(['models/llama3-rope', 'sharded'])(
    '%s is copied byte for byte, the files beside its weights too',
    async (name) => {
      const path = join(folder, 'source', name)
      await cp(join(FIXTURES, 'transformers', name), path, { recursive: true })
      await rm(join(path, 'expected.safetensors'), { force: true })
      const out = join(folder, 'copy', name)
      const model = await AutoModelForCausalLM.fromPretrained(path, { device })
      await model.savePretrained(out)
      expect(await contents(out)).toEqual(await contents(path))
    },
  )

  test('a .gguf is copied to a .gguf', async () => {
    const path = join(FIXTURES, 'gguf/models/b-q4_k_m.gguf')
    const out = join(folder, 'copy.gguf')
    await (await AutoModelForCausalLM.fromPretrained(path, { device })).savePretrained(out)
    expect((await readFile(out)).equals(await readFile(path))).toBe(true)
  })

  test('nothing is overwritten without force', async () => {
    const out = join(folder, 'twice')
    const model = await AutoModelForCausalLM.fromPretrained(MODEL, { device })
    await model.savePretrained(out)
    await expect(model.savePretrained(out)).rejects.toThrow(FileError)
    await model.savePretrained(out, { force: true })
  })
})

registerMethod(rows)

describe.each<[string, () => QuantizationConfig, string]>([
  ['nf4', () => new BitsAndBytesConfig({ type: 'nf4' }), 'nf4'],
  ['nf4 nested', () => new BitsAndBytesConfig({ loadIn4bit: true, bnb4bitUseDoubleQuant: true }), 'nested'],
  ['int8', () => new BitsAndBytesConfig({ bits: 8 }), 'int8'],
  ['hqq', () => new HqqConfig({ nbits: 4, groupSize: 16 }), 'hqq'],
  ['gguf q8_0', () => new GgufConfig({ type: 'q8_0' }), 'q8.gguf'],
  ["a method of one's own", () => new QuantizationConfig('rows'), 'rows'],
])('%s', (name, config, out) => {
  test('quantised while loading, it runs as the saved model does', async () => {
    const quantizationConfig = config()
    const model = await AutoModelForCausalLM.fromPretrained(MODEL, { device, quantizationConfig })
    const path = join(folder, out)
    await model.savePretrained(path)
    const saved = await AutoModelForCausalLM.fromPretrained(path, { device })
    expect(await saved.logits(IDS)).toEqual(await model.logits(IDS))
    if (!out.endsWith('.gguf'))
      expect(saved.configJson.quantization_config).toMatchObject({ quant_method: quantizationConfig.method.name })
    expect((await stat(path)).size).toBeGreaterThan(0)
  })

  test('restored, it is a float model that runs alike and saves as one', async () => {
    const model = await AutoModelForCausalLM.fromPretrained(join(folder, out), { device })
    const float = await model.dequantize()
    const path = join(folder, `${out}-float`)
    await float.savePretrained(path)
    const saved = await AutoModelForCausalLM.fromPretrained(path, { device })
    expect(saved.configJson.quantization_config).toBeUndefined()
    expect(await saved.logits(IDS)).toEqual(await float.logits(IDS))
    expect(name).toBeTruthy()
  })
})

test('the guide shows the very method that is tested here', async () => {
  const guide = await readFile(join(import.meta.dirname, '../../docs/add-a-method.md'), 'utf8')
  const shown = /```ts\n(.*?)```/s.exec(guide)![1]
  const tested = await readFile(join(import.meta.dirname, '../support/row-method.ts'), 'utf8')
  expect(tested.split('\n').slice(1).join('\n')).toBe(shown.replace("'fewbit'", "'../../src/index.ts'"))
})

test('a registered method is listed, and its name is taken', () => {
  expect(methods().map((m) => m.name)).toContain('rows')
  expect(() => registerMethod(rows)).toThrow('Method "rows" is registered already')
})
