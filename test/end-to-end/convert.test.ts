// `convert` end to end: folder -> GGUF -> folder keeps every byte of the tensors and every id of the tokenizer; quantised models are
// restored to exactly the values that their method defines, by the compiled decoders as by the TypeScript ones.
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { openModel } from '../../src/api/open.ts'
import { tokenizerOf } from '../../src/api/tokenizer.ts'
import { localFiles } from '../../src/checkpoint/node/files.ts'
import { outputStore } from '../../src/checkpoint/node/output.ts'
import { UsageError } from '../../src/core/errors.ts'
import { toFloat32 } from '../../src/core/half.ts'
import type { QuantizerKernels } from '../../src/core/kernels.ts'
import { dequantizedSource } from '../../src/models/dequantized.ts'
import { readTensor } from '../../src/models/source.ts'
import { convertModel, parseTarget } from '../../src/quantize/convert.ts'
import { decode } from '../../src/weights/weight.ts'
import { DOORS } from '../support/doors.ts'
import { FIXTURES } from '../support/tensors.ts'

const EMBEDDED = join(import.meta.dirname, '../../models/stories-7m')
const folder = await mkdtemp(join(tmpdir(), 'fewbit-convert-'))
afterAll(() => rm(folder, { recursive: true, force: true }))

async function convert(from: string, to: string, out: string, kernels?: QuantizerKernels): Promise<string> {
  const path = join(folder, out)
  const source = await openModel(from)
  try {
    const output = await outputStore(path, { force: true, single: out.endsWith('.gguf') })
    await convertModel(source, parseTarget(to), output, { kernels })
  } finally {
    await source.checkpoint.close()
  }
  return path
}

/** Bytes of every tensor by name. */
async function tensors(path: string): Promise<Map<string, string>> {
  const { checkpoint } = await openModel(path)
  const out = new Map<string, string>()
  for (const { name, dtype, shape } of checkpoint.tensors.values()) {
    const { data } = await readTensor(checkpoint, name)
    out.set(name, `${dtype} ${shape} ${Buffer.from(data).toString('base64')}`)
  }
  await checkpoint.close()
  return out
}

describe('a folder becomes a GGUF file and a folder again', async () => {
  const file = await convert(EMBEDDED, 'gguf:bf16', 'embedded.gguf')
  const back = await convert(file, 'float:bf16', 'embedded')

  test('with the same file of weights', async () => {
    const [a, b] = await Promise.all([EMBEDDED, back].map((path) => readFile(join(path, 'model.safetensors'))))
    expect(b.equals(a)).toBe(true)
  })

  test('with the files that a model folder has', async () => {
    expect((await readdir(back)).sort()).toEqual([
      'chat_template.jinja',
      'config.json',
      'generation_config.json',
      'model.safetensors',
      'tokenizer.json',
      'tokenizer_config.json',
    ])
    const config = JSON.parse(await readFile(join(back, 'config.json'), 'utf8'))
    expect(config).toMatchObject({ architectures: ['LlamaForCausalLM'], dtype: 'bfloat16', tie_word_embeddings: true })
  })

  test('whose tokenizer gives the same ids and the same chats', async () => {
    const [a, b] = await Promise.all([EMBEDDED, back].map(async (path) => tokenizerOf(await localFiles(path))))
    const text = 'Once upon a time, ½ of Ⅷ 12 cats\n\n said "hello" — naïve. <|im_start|>'
    expect(b.encode(text)).toEqual(a.encode(text))
    const chat = [{ role: 'user', content: 'Hi' }]
    expect(b.applyChatTemplate(chat, { addGenerationPrompt: true })).toEqual(
      a.applyChatTemplate(chat, { addGenerationPrompt: true }),
    )
  })

  test('which gives the first GGUF file again, its name apart', async () => {
    const again = await convert(back, 'gguf:bf16', 'again-embedded.gguf')
    expect(await tensors(again)).toEqual(await tensors(file))
  })
})

describe('a quantised model is restored', () => {
  const QUANTISED = [
    'bitsandbytes/nf4-dq',
    'bitsandbytes/int8',
    'hqq/llama_b4_axis0_f16',
    'hqq/llama_b3',
    'quanto/llama_qint4',
    'quanto/llama_qfloat8_e4m3fn',
    'eetq/checkpoint',
    'awq/llama_g32_f32_gemm/checkpoint',
    'aqlm/tiny_llama_2x8',
    'gguf/models/a-q4_k_m.gguf',
    'gguf/models/a-q4_0.gguf',
  ]
  for (const [door, kernels] of DOORS)
    for (const [i, name] of QUANTISED.entries())
      test(`${name} by ${door}: to the values of the TypeScript decoders`, async () => {
        const from = join(FIXTURES, name)
        const out = await convert(from, 'float:f32', `float-${door}-${i}`, kernels)
        const source = await openModel(from)
        const expected = await dequantizedSource(source, { dtype: 'F32' })
        const found = await tensors(out)
        expect([...found.keys()].sort()).toEqual([...expected.checkpoint.tensors.keys()].sort())
        for (const { name: tensor, shape } of expected.checkpoint.tensors.values()) {
          const { data } = await readTensor(expected.checkpoint, tensor)
          expect(found.get(tensor) === `F32 ${shape} ${Buffer.from(data).toString('base64')}`, tensor).toBe(true)
        }
        await source.checkpoint.close()
      })

  const FOLDERS = QUANTISED.filter((name) => !name.endsWith('.gguf'))
  test.each(FOLDERS)('%s, and then written as GGUF', async (name) => {
    const out = await convert(join(FIXTURES, name), 'gguf:f16', 'restored.gguf', DOORS[0][1])
    const types = new Set([...(await tensors(out)).values()].map((text) => text.split(' ')[0]))
    expect(types).toEqual(new Set(['F16', 'F32']))
  })

  test('as a folder that is float to whoever opens it, without the file that marked it as quantised', async () => {
    const out = await convert(join(FIXTURES, 'quanto/llama_qint4'), 'float:f32', 'float-quanto', DOORS[0][1])
    expect(await readdir(out)).not.toContain('quanto_qmap.json')
    const { method, checkpoint } = await openModel(out)
    await checkpoint.close()
    expect(method).toBeUndefined()
  })
})

describe('HQQ groups along rows become Q4_1 with the same codes', async () => {
  const from = join(FIXTURES, 'hqq/llama_b4')
  const out = await convert(from, 'gguf:q4_1', 'kept.gguf', DOORS[0][1])
  const [hqq, gguf] = await Promise.all([openModel(from), openModel(out)])
  afterAll(async () => {
    await hqq.checkpoint.close()
    await gguf.checkpoint.close()
  })

  test.each(hqq.parameters.flatMap((p, i) => (p.quantized ? [[p.parameter.path, i] as const] : [])))(
    '%s',
    async (path, index) => {
      const weight = await hqq.load(index)
      const stored = await gguf.load(gguf.parameters.findIndex((p) => p.parameter.path === path))
      expect(Buffer.from(stored.parts.codes.data).equals(weight.parts.codes.data)).toBe(true)
      // The scale and the minimum are rounded to half precision: 2^-11 of each, and the minimum is up to 15 steps.
      const scale = toFloat32(weight.parts.scale)
      const perGroup = scale.length / (weight.shape[0] * weight.shape[1])
      const [a, b] = [decode(weight), decode(stored)]
      const largest = a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i]) / scale[Math.floor(i * perGroup)]), 0)
      expect(largest).toBeLessThan(2 ** -11 * 30)
    },
  )
})

test('a target that is none is refused with those that are', () => {
  expect(() => parseTarget('float:int8')).toThrow(UsageError)
  expect(() => parseTarget('hqq')).toThrow(/float:bf16.*gguf:/)
})

test('a quantised GGUF file becomes another type only where that is allowed', async () => {
  const from = join(FIXTURES, 'gguf/models/b-q4_k_m.gguf')
  await expect(convert(from, 'gguf:q8_0', 'refused.gguf')).rejects.toThrow(/quantised already.*quantising twice/)
})
