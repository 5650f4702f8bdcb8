// Model folders as GGUF files and GGUF files as models, against the reference converter's files and llama.cpp's logits.
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { inMemory } from '../../../test/support/gguf-memory.ts'
import { draftModel, type ModelDraft } from '../../../test/support/model-files.ts'
import { FIXTURES, fixtureTensors, largestDifference, span } from '../../../test/support/tensors.ts'
import { rowsOf } from '../../backends/batch.ts'
import { openBackend } from '../../backends/index.ts'
import type { GgufMetadata, GgufValue } from '../../checkpoint/gguf/metadata.ts'
import { localFiles } from '../../checkpoint/node/files.ts'
import { openCheckpoint } from '../../checkpoint/open.ts'
import { gguf } from '../../methods/gguf/index.ts'
import { decode } from '../../weights/weight.ts'
import { type ModelSource, modelInfo, modelSource, readTensor } from '../source.ts'
import { ggufView } from './view.ts'

interface ExpectedFile {
  readonly kv: readonly { key: string; types: string[]; value: unknown }[]
  readonly tensors: readonly { name: string; dims: number[]; type: string; sha256: string }[]
  readonly ids?: number[]
}
const FOLDER = 'gguf/models'
const MODELS: {
  hf: Record<string, { outtypes: Record<string, ExpectedFile> }>
  models: Record<string, { ids: number[] }>
} = JSON.parse(readFileSync(join(FIXTURES, FOLDER, 'models.json'), 'utf8'))
const CASES = ['llama', 'llama3-rope', 'mistral', 'qwen2', 'qwen3', 'gemma2', 'gemma3', 'tiny-p3']

async function open(path: string): Promise<ModelSource> {
  const checkpoint = await openCheckpoint(await localFiles(join(FIXTURES, FOLDER, path)))
  onTestFinished(() => checkpoint.close())
  return modelSource(checkpoint)
}

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

/** A key-value as models.json has it. */
function plain(value: GgufValue): unknown {
  if (value.type === 'f32') return { value: value.value, bits: new Uint32Array(Float32Array.of(value.value).buffer)[0] }
  return value.value
}

const TYPES: Record<string, string> = { u32: 'UINT32', f32: 'FLOAT32', string: 'STRING', i32: 'INT32' }

function keyValues(metadata: ReadonlyMap<string, unknown>) {
  return [...(metadata as GgufMetadata)].map(([key, value]) => ({
    key,
    types: [TYPES[value.type]],
    value: plain(value),
  }))
}

/** The view's tensors made into the types of `type` by the method, as a writer would make them. */
async function converted(source: ModelSource, type: string) {
  const view = await ggufView(source)
  const infos = [...view.tensors.values()].map(({ name, shape, dtype }) => ({
    name,
    shape,
    dtype,
    role: 'other' as const,
  }))
  const plan = gguf.plan(infos, modelInfo(source), gguf.parseConfig({ quant_method: 'gguf', type }))
  return Promise.all(
    infos.map(async ({ name, shape, dtype }, i) => {
      const step = plan.tensors[i]
      const tensor = await readTensor(view, name)
      const dims = [...shape].reverse()
      if (step.action !== 'quantize') return { name, dims, type: dtype, data: tensor.data }
      const weight = await gguf.quantize({ name, tensor, settings: step.settings })
      return {
        name,
        dims,
        type: step.settings.type,
        data: (await gguf.stored.write(name, weight, step.settings))[0].tensor.data,
      }
    }),
  )
}

describe.each(CASES)('%s', (name) => {
  test.each([
    ['f32', 0],
    ['f16', 1],
    ['bf16', 32],
    ['q8_0', 7],
  ])("becomes the converter's %s file: key-values and tensors", async (type, fileType) => {
    const source = await open(`hf/${name}`)
    const expected = MODELS.hf[name].outtypes[type]
    const view = await ggufView(source, { fileType })
    const general = expected.kv.filter(({ key }) => !key.startsWith('tokenizer.'))
    expect(keyValues(view.metadata)).toEqual(general)
    const tensors = await converted(source, type)
    expect(tensors.map(({ name, dims, type }) => ({ name, dims, type }))).toEqual(
      expected.tensors.map(({ name, dims, type }) => ({ name, dims, type })),
    )
    expect(tensors.map(({ data }) => sha256(data))).toEqual(expected.tensors.map((t) => t.sha256))
  })

  test('runs from its GGUF file as from its folder, and as llama.cpp runs it', async () => {
    const folder = await open(`hf/${name}`)
    const file = await modelSource(await inMemory(await ggufView(folder, { fileType: 0 })))
    const ids = MODELS.hf[name].outtypes.f32.ids!
    const [fromFolder, fromFile] = [await logitsOf(folder, ids), await logitsOf(file, ids)]
    // Factors of a llama3 rope, and an eps of 1e-5, are rounded to float32 in the file. These Gemmas scale scores as no file can say.
    const tolerance = span(fromFolder) * (['llama3-rope', 'tiny-p3'].includes(name) ? 1e-6 : 0)
    if (!name.startsWith('gemma'))
      expect(largestDifference(fromFile, fromFolder).difference).toBeLessThanOrEqual(tolerance)
    const reference = (await fixtureTensors(`${FOLDER}/hf/${name}/llama_cpp_logits.safetensors`)).get('f32')!.floats()
    // llama.cpp looks tanh-gelu up in a table of halves.
    const relative = name.startsWith('gemma') ? 3e-4 : 1e-5
    expect(largestDifference(fromFile, reference).difference).toBeLessThan(span(reference) * relative)
  })
})

async function logitsOf(source: ModelSource, ids: readonly number[]): Promise<Float32Array> {
  const backend = await openBackend('reference')
  const model = await backend.compile(source.graph, source.load, { precision: 'exact', threads: 1 })
  return model.run(rowsOf(ids, 0, 'all'))
}

/** What GGUF cannot say of a fixture is taken out of it first; the view warns of each. */
const UNSAYABLE: Readonly<Record<string, { readonly edit: Record<string, unknown>; readonly warning: RegExp }>> = {
  gemma2: { edit: { query_pre_attn_scalar: 16 }, warning: /query_pre_attn_scalar" 24/ },
  gemma3: {
    edit: { query_pre_attn_scalar: 16, layer_types: new Array(3).fill('sliding_attention') },
    warning: /query_pre_attn_scalar" 20/,
  },
  smollm3: { edit: { no_rope_layers: [1, 1] }, warning: /which layers rotate/ },
  gpt2: { edit: { scale_attn_by_inverse_layer_idx: false }, warning: /scales its scores/ },
  mistral: { edit: { sliding_window: null }, warning: /does not keep the sliding window/ },
  'qwen2-sliding': { edit: { use_sliding_window: false }, warning: /does not keep the sliding window/ },
  'llama-dynamic': { edit: { rope_parameters: null }, warning: /dynamic rope/ },
}
const FIXTURE_MODELS = Object.keys(JSON.parse(readFileSync(join(FIXTURES, 'transformers/models/index.json'), 'utf8')))

describe('every family', () => {
  const drafted = async (name: string, edit?: (draft: ModelDraft) => void) =>
    modelSource(await openCheckpoint(await draftModel(name, edit)))

  test.each(FIXTURE_MODELS)('%s runs from its GGUF file as from its folder', async (name) => {
    const source = await drafted(name, ({ config }) => Object.assign(config, UNSAYABLE[name]?.edit))
    const view = await ggufView(source, { fileType: 0 })
    expect(view.warnings.filter((text) => !text.includes('only fewbit'))).toEqual([])
    const file = await modelSource(await inMemory(view))
    const ids = [3, 141, 59, 26, 53, 58, 97, 93, 23, 84, 62, 64, 33, 83, 27, 95, 2, 88, 41, 97]
    const [fromFolder, fromFile] = [await logitsOf(source, ids), await logitsOf(file, ids)]
    // Factors and norms are float32 in the file.
    expect(largestDifference(fromFile, fromFolder).difference).toBeLessThanOrEqual(span(fromFolder) * 1e-6)
  })

  test.each(Object.keys(UNSAYABLE))('%s warns of what its file cannot say', async (name) => {
    const view = await ggufView(await drafted(name))
    expect(view.warnings.join('\n')).toMatch(UNSAYABLE[name].warning)
  })
})

describe('GGUF files of llama.cpp', () => {
  test.each([
    ['a', 'f16', 'F16', 5e-3],
    ['b', 'f16', 'F16', 5e-3],
    ['a', 'q4_0', 'Q4_0', 4e-2],
    ['a', 'q4_k_m', 'Q4_K_M', 4e-2],
    ['b', 'q4_k_m', 'Q4_K_M', 4e-2],
  ])("%s-%s runs within the noise of llama.cpp's quantised activations", async (model, file, key, rms) => {
    const source = await open(`${model}-${file}.gguf`)
    expect(source.warnings).toEqual([])
    const logits = await logitsOf(source, MODELS.models[model].ids)
    const reference = (await fixtureTensors(`${FOLDER}/${model}-logits.safetensors`)).get(`${key}.f32`)!.floats()
    const mean = reference.reduce((sum, x) => sum + x, 0) / reference.length
    const deviation = Math.sqrt(reference.reduce((sum, x) => sum + (x - mean) ** 2, 0) / reference.length)
    const error = Math.sqrt(reference.reduce((sum, x, i) => sum + (x - logits[i]) ** 2, 0) / reference.length)
    expect(error / deviation).toBeLessThan(rms)
  })

  test('a tied model has no output tensor, and its weights keep their blocks', async () => {
    const source = await open('b-q4_k_m.gguf')
    expect(source.config.tied).toBe(true)
    expect(source.method?.name).toBe('gguf')
    const index = source.parameters.findIndex((p) => p.name === 'blk.0.attn_q.weight')
    const weight = await source.load(index)
    expect(weight.shape).toEqual([64, 64])
    expect(decode(weight).every(Number.isFinite)).toBe(true)
  })
})
