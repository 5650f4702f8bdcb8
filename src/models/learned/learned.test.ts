// GPT-2 and OPT: their configs, the habits of their files, and Conv1D weights through a quantised folder and back.

import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { draftModel, type ModelDraft } from '../../../test/support/model-files.ts'
import { FIXTURES, fixtureTensors, largestDifference, span } from '../../../test/support/tensors.ts'
import { rowsOf } from '../../backends/batch.ts'
import { openBackend } from '../../backends/index.ts'

import { localFiles } from '../../checkpoint/node/files.ts'
import { outputStore } from '../../checkpoint/node/output.ts'
import { openCheckpoint } from '../../checkpoint/open.ts'
import { rawTensor } from '../../core/dtypes.ts'
import { ConfigError, FileError, UnsupportedError } from '../../core/errors.ts'
import { toFloat32 } from '../../core/half.ts'
import { fromPlain, type JsonObject, type PlainObject } from '../../core/json.ts'
import { methodNamed } from '../../methods/index.ts'
import { quantizeModel } from '../../quantize/quantize.ts'
import { familyOf } from '../auto.ts'
import { dequantizedSource } from '../dequantized.ts'
import { type ModelSource, modelInfo, modelSource, readTensor, tensorInfos } from '../source.ts'
import type { LearnedConfig } from './block.ts'

function parse(config: PlainObject): LearnedConfig {
  const json = fromPlain(config) as JsonObject
  return familyOf(json).parseConfig(json) as LearnedConfig
}

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

describe('config.json', () => {
  const { cases } = JSON.parse(readFileSync(join(FIXTURES, 'transformers/configs.json'), 'utf8'))
  const ACTIVATIONS: Record<string, string> = { gelu_new: 'gelu_tanh' }

  test.each(['gpt2-small', 'gpt2-nested', 'opt-350m-like'])('%s', (name) => {
    const { config, arch } = cases[name]
    const found = parse(config)
    expect({
      hidden: found.hiddenSize,
      layers: found.layers,
      heads: found.heads,
      kv_heads: found.kvHeads,
      head_dim: found.headDim,
      ffn: found.intermediateSize,
      vocab: found.vocabSize,
      eps: found.normEps,
      act: found.activation,
      attn_scale: found.scoreScales,
      tied: found.tied,
    }).toEqual({
      hidden: arch.hidden,
      layers: arch.layers,
      heads: arch.heads,
      kv_heads: arch.kv_heads,
      head_dim: arch.head_dim,
      ffn: arch.ffn,
      vocab: arch.vocab,
      eps: arch.eps,
      act: ACTIVATIONS[arch.act] ?? arch.act,
      attn_scale: arch.attn_scale,
      tied: arch.tied,
    })
  })

  const wrong: readonly (readonly [PlainObject, string])[] = [
    [{ model_type: 'gpt2', n_layer: 1e9 }, 'n_layer'],
    [{ model_type: 'gpt2', n_embd: 100, n_head: 3 }, 'n_head'],
    [{ model_type: 'gpt2', n_positions: 0 }, 'n_positions'],
    [{ model_type: 'gpt2', n_inner: -5 }, 'n_inner'],
    [{ model_type: 'gpt2', add_cross_attention: true }, 'add_cross_attention'],
    [{ model_type: 'opt', hidden_size: 100, num_attention_heads: 3 }, 'num_attention_heads'],
    [{ model_type: 'opt', word_embed_proj_dim: 'wide' }, 'word_embed_proj_dim'],
    [{ model_type: 'opt', do_layer_norm_before: 1 }, 'do_layer_norm_before'],
  ]
  test.each(wrong)('%j', (config, key) => {
    expect(() => parse(config)).toThrow(ConfigError)
    expect(() => parse(config)).toThrow(expect.objectContaining({ fields: expect.objectContaining({ key }) }))
  })

  test('norms without weights are unsupported', () => {
    expect(() => parse({ model_type: 'opt', layer_norm_elementwise_affine: false })).toThrow(UnsupportedError)
  })
})

describe('files', () => {
  test.each([
    ['gpt2', 'transformer.', ''],
    ['opt', 'model.decoder.', 'decoder.'],
    ['opt', 'model.decoder.', ''],
  ])('%s with "%s" shortened to "%s" gets its prefix back', async (name, prefix, kept) => {
    const source = await open(name, ({ tensors }) => {
      for (const [key, tensor] of [...tensors]) {
        if (!key.startsWith(prefix)) continue
        tensors.delete(key)
        tensors.set(kept + key.slice(prefix.length), tensor)
      }
    })
    expect(source.warnings).toEqual([])
    expect(await logitsError(name, source)).toBeLessThan(1e-5)
  })

  test("GPT-2's causal masks are known buffers", async () => {
    const mask = rawTensor('U8', [1, 1, 2, 2], new Uint8Array(4))
    const source = await open('gpt2', ({ tensors }) => tensors.set('transformer.h.0.attn.bias', mask))
    expect(source.warnings).toEqual([])
  })

  test('a Conv1D weight of the other orientation is refused by its shape', async () => {
    const name = 'transformer.h.0.mlp.c_fc.weight'
    const attempt = open('gpt2', ({ tensors }) => {
      const { dtype, shape, data } = tensors.get(name)!
      tensors.set(name, { dtype, data, shape: [...shape].reverse() })
    })
    await expect(attempt).rejects.toThrow(FileError)
    await expect(attempt).rejects.toThrow(`"${name}"`)
  })

  test('methods see [out, in] and leave positions alone; automatic skip lists end with the last module', async () => {
    const source = await open('gpt2')
    const { infos } = tensorInfos(source)
    const of = (name: string) => infos.find((t) => t.name === `transformer.${name}`)
    expect(of('h.0.attn.c_attn.weight')).toMatchObject({ shape: [192, 64], role: 'linear' })
    expect(of('wpe.weight')).toMatchObject({ role: 'other' })
    expect(of('wte.weight')).toMatchObject({ role: 'embedding' })
    expect(modelInfo(source).lastModule).toBe('transformer.ln_f.bias')
    expect(modelInfo(await open('opt')).lastModule).toBe('model.decoder.layers.1.final_layer_norm.bias')
  })

  test('a position beyond the learned ones is refused', async () => {
    const source = await open('gpt2')
    for (const device of ['reference', 'cpu']) {
      const backend = await openBackend(device)
      const model = await backend.compile(source.graph, source.load, { precision: 'exact', threads: 1 })
      await expect(model.run(rowsOf(new Array(65).fill(1), 0, 'last'))).rejects.toThrow(
        'Cannot run position 64: the model has learned 64 positions',
      )
    }
  })
})

describe('Conv1D weights in a quantised folder', () => {
  async function quantized(name: string): Promise<ModelSource> {
    const folder = await mkdtemp(join(tmpdir(), 'fewbit-learned-'))
    onTestFinished(() => rm(folder, { recursive: true, force: true }))
    const method = methodNamed('hqq')
    const config = method.parseConfig(method.fromFlags({ bits: 8, groupSize: 16, skip_modules: ['lm_head', 'c_fc'] }))
    const out = join(folder, 'out')
    await quantizeModel(await open(name), method, config, await outputStore(out, { force: false }))
    return modelSource(await openCheckpoint(await localFiles(out)))
  }

  test('are stored [out, in] where they are quantised, as they were where they are kept; restored they are as they were', async () => {
    const source = await quantized('gpt2')
    const original = await open('gpt2')
    const kept = 'transformer.h.0.mlp.c_fc.weight'
    expect(await readTensor(source.checkpoint, kept)).toEqual(await readTensor(original.checkpoint, kept))
    expect(source.checkpoint.tensors.has('transformer.h.0.attn.c_attn.W_q')).toBe(true)
    expect(await logitsError('gpt2', source)).toBeLessThan(0.05)
    const restored = await dequantizedSource(source)
    const name = 'transformer.h.0.attn.c_attn.weight'
    expect(restored.checkpoint.tensors.get(name)!.shape).toEqual([64, 192])
    const [a, b] = await Promise.all(
      [restored, original].map(async (s) => toFloat32(await readTensor(s.checkpoint, name))),
    )
    expect(largestDifference(a, b).difference).toBeLessThan(span(b) / 100)
    await source.checkpoint.close()
  })
})
