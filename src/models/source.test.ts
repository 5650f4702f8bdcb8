import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { draftModel, type ModelDraft } from '../../test/support/model-files.ts'
import { FIXTURES, fixtureTensors, largestDifference, span } from '../../test/support/tensors.ts'
import { rowsOf } from '../backends/batch.ts'
import { openBackend } from '../backends/index.ts'
import { localFiles } from '../checkpoint/node/files.ts'
import { openCheckpoint } from '../checkpoint/open.ts'
import { rawTensor } from '../core/dtypes.ts'
import { ConfigError, FileError, UnsupportedError } from '../core/errors.ts'
import { type ModelSource, modelInfo, modelSource, tensorInfos } from './source.ts'

async function open(name: string, edit?: (draft: ModelDraft) => void): Promise<ModelSource> {
  return modelSource(await openCheckpoint(await draftModel(name, edit)))
}

/** Largest difference from the fixture's logits, relative to their span. */
async function logitsError(name: string, source: ModelSource): Promise<number> {
  const expected = await fixtureTensors(`transformers/models/${name}/expected.safetensors`)
  const backend = await openBackend('reference')
  const model = await backend.compile(source.graph, source.load, { precision: 'exact', threads: 1 })
  const logits = await model.run(rowsOf(expected.get('input_ids')!.ints(), 0, 'all'))
  const reference = expected.get('logits')!.floats()
  return largestDifference(logits, reference).difference / span(reference)
}

/** Gives a tensor another name. */
function rename({ tensors }: ModelDraft, from: string, to: string): void {
  tensors.set(to, tensors.get(from)!)
  tensors.delete(from)
}

describe('names', () => {
  test('a missing "model." prefix is added', async () => {
    const source = await open('llama', (draft) => {
      for (const name of [...draft.tensors.keys()])
        if (name.startsWith('model.')) rename(draft, name, name.slice('model.'.length))
    })
    expect(source.warnings).toEqual([])
    expect(tensorInfos(source).infos.map((t) => t.name)).toContain('model.layers.0.self_attn.q_proj.weight')
    expect(await logitsError('llama', source)).toBeLessThan(1e-5)
  })

  test('shards are one model', async () => {
    const checkpoint = await openCheckpoint(await localFiles(join(FIXTURES, 'transformers/sharded')))
    onTestFinished(() => checkpoint.close())
    expect(await logitsError('llama', await modelSource(checkpoint))).toBeLessThan(1e-5)
  })

  test('surplus tensors are named, known buffers are not', async () => {
    const source = await open('llama', ({ tensors }) => {
      tensors.set('model.vision.patch.weight', rawTensor('F32', [1], new Float32Array(1)))
      tensors.set('model.layers.0.self_attn.rotary_emb.inv_freq', rawTensor('F32', [8], new Float32Array(8)))
    })
    expect(source.warnings).toEqual(['1 tensors belong to no parameter of the model: model.vision.patch.weight'])
  })
})

describe('models of text and images', () => {
  /** Gemma 3 inside a folder of text and images, its names as `spelled`. */
  const wrapped = (spelled: (name: string) => string) => (draft: ModelDraft) => {
    for (const name of [...draft.tensors.keys()]) rename(draft, name, spelled(name))
    draft.tensors.set('vision_tower.patch.weight', rawTensor('F32', [1], new Float32Array(1)))
    draft.tensors.set('multi_modal_projector.norm.weight', rawTensor('F32', [1], new Float32Array(1)))
    const { dtype, tie_word_embeddings, architectures: _, ...text } = draft.config
    for (const key of Object.keys(draft.config)) delete draft.config[key]
    Object.assign(draft.config, {
      model_type: 'gemma3',
      dtype,
      tie_word_embeddings,
      text_config: text,
      vision_config: {},
    })
  }

  test.each([
    ['language_model.model.', (name: string) => `language_model.${name}`],
    ['model.language_model.', (name: string) => name.replace(/^model\./, 'model.language_model.')],
  ])('the text part is a model: names in %s', async (_, spelled) => {
    const source = await open('gemma3', wrapped(spelled))
    expect(source.warnings).toEqual([
      'gemma3 is a model of text and images: its text part (gemma3_text) is taken, 2 tensors of the others are left out',
    ])
    expect(source.configJson).toMatchObject({
      model_type: 'gemma3_text',
      architectures: ['Gemma3ForCausalLM'],
      dtype: 'bfloat16',
      tie_word_embeddings: true,
    })
    expect(await logitsError('gemma3', source)).toBeLessThan(1e-5)
  })

  test('one whose text part is of no known family is refused by its own type', async () => {
    await expect(
      open('gemma3', ({ config }) =>
        Object.assign(config, { model_type: 'seer', text_config: { model_type: 'unheard' } }),
      ),
    ).rejects.toThrow(/Cannot run model_type "seer"/)
  })
})

describe('tied heads', () => {
  const head = 'lm_head.weight'
  const embedding = 'model.embed_tokens.weight'

  test('only the embedding serves both', async () => {
    const source = await open('smollm2')
    expect(modelInfo(source)).toMatchObject({ tied: true, lastModule: 'model.norm', dtype: 'F16' })
    expect(source.graph.parameters.map((p) => p.path)).not.toContain(head)
  })

  test('only the head serves both', async () => {
    const source = await open('smollm2', (draft) => rename(draft, embedding, head))
    expect(await logitsError('smollm2', source)).toBeLessThan(1e-5)
    expect(
      tensorInfos(source)
        .infos.filter((t) => t.role === 'embedding')
        .map((t) => t.name),
    ).toEqual([embedding])
  })

  test('two equal tensors are one', async () => {
    const source = await open('smollm2', ({ tensors }) => tensors.set(head, tensors.get(embedding)!))
    expect(source.config.tied).toBe(true)
    expect(source.warnings).toEqual([])
    expect(tensorInfos(source).infos.map((t) => t.name)).not.toContain(head)
  })

  test('two different tensors stay separate, with a warning', async () => {
    const source = await open('smollm2', ({ tensors }) => {
      const { data, ...rest } = tensors.get(embedding)!
      const other = data.slice()
      other[other.length - 1] ^= 1
      tensors.set(head, { ...rest, data: other })
    })
    expect(source.config.tied).toBe(false)
    expect(source.warnings).toEqual([
      '"tie_word_embeddings" is true, but lm_head.weight and model.embed_tokens.weight differ: they stay separate',
    ])
    expect(await logitsError('smollm2', source)).toBeLessThan(1e-2)
  })

  test('an untied model without a head is refused', async () => {
    await expect(open('llama', ({ tensors }) => tensors.delete(head))).rejects.toThrow(
      /tensor "lm_head.weight" \[256, 64\] is missing/,
    )
  })
})

describe('what does not fit', () => {
  test('missing tensors are counted, the first is named with its shape', async () => {
    const attempt = open('qwen2', ({ tensors }) => {
      for (const layer of [0, 1]) tensors.delete(`model.layers.${layer}.self_attn.q_proj.bias`)
    })
    await expect(attempt).rejects.toThrow(FileError)
    await expect(attempt).rejects.toMatchObject({
      message: 'Cannot load "memory": tensor "model.layers.0.self_attn.q_proj.bias" [64] is missing, and 1 more',
      fields: { tensor: 'model.layers.0.self_attn.q_proj.bias', expected: [64] },
    })
  })

  test('a wrong shape says found and expected', async () => {
    await expect(open('llama', ({ config }) => (config.intermediate_size = 96))).rejects.toThrow(
      'Cannot load "model.layers.0.mlp.gate_proj.weight" of "memory": its shape is [80, 64], config.json makes it [96, 64]',
    )
  })

  test('integers without a quantization_config are refused', async () => {
    const attempt = open('llama', ({ tensors }) => {
      const name = 'model.layers.0.mlp.up_proj.weight'
      tensors.set(name, rawTensor('I8', tensors.get(name)!.shape, new Uint8Array(80 * 64)))
    })
    await expect(attempt).rejects.toThrow(/it is I8, expected floats, and no quantization_config explains it/)
  })

  test('a method that nobody registered is refused by name', async () => {
    const attempt = open('llama', ({ config }) => (config.quantization_config = { quant_method: 'gptq', bits: 4 }))
    await expect(attempt).rejects.toThrow(UnsupportedError)
    await expect(attempt).rejects.toThrow(/quantised with "gptq": fewbit has .*bitsandbytes/)
  })

  test.each([
    ['a quantization_config without a method', { bits: 4 }],
    ['a quantization_config that is a list', []],
  ])('%s is refused', async (_, value) => {
    await expect(open('llama', ({ config }) => (config.quantization_config = value))).rejects.toThrow(ConfigError)
  })
})

describe('dtype', () => {
  test.each([
    ['dtype', 'float16', 'F16'],
    ['torch_dtype', 'torch.float32', 'F32'],
  ])('%s of config.json wins', async (key, value, expected) => {
    const source = await open('llama', ({ config }) => {
      delete config.dtype
      config[key] = value
    })
    expect(modelInfo(source).dtype).toBe(expected)
  })

  test('else the first float tensor tells', async () => {
    const source = await open('llama', ({ config }) => {
      delete config.dtype
    })
    expect(modelInfo(source).dtype).toBe('BF16')
  })
})
