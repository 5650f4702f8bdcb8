// Whole GGUF files, byte for byte: what llama-quantize makes of a float file, and what its converter makes of a model folder.
import { createHash } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openKernels } from '../../src/backends/cpu/native.ts'
import { quantizerKernels } from '../../src/backends/cpu/quantizers.ts'
import { localFiles, openFile } from '../../src/checkpoint/node/files.ts'
import { outputStore } from '../../src/checkpoint/node/output.ts'
import { openCheckpoint } from '../../src/checkpoint/open.ts'
import { fromPlain, type JsonObject, type Plain } from '../../src/core/json.ts'
import type { QuantizerKernels } from '../../src/core/kernels.ts'
import { methodNamed } from '../../src/methods/index.ts'
import { MODEL_FAMILIES } from '../../src/models/auto.ts'
import { modelSource } from '../../src/models/source.ts'
import { type QuantizeOptions, type QuantizeResult, quantizeModel } from '../../src/quantize/quantize.ts'
import { fixture, fixtureJson } from '../support/fixtures.ts'

const FOLDER = fixture('gguf/models')
const method = methodNamed('gguf')

interface Files {
  readonly models: Record<
    string,
    {
      readonly files: Record<string, { readonly sha256: string; readonly options: string[] | null }>
      readonly requantized_Q4_K_S?: { readonly sha256: string }
      readonly overrides_Q4_0?: { readonly sha256: string }
    }
  >
  /** Model folders: `pre` stands in for the look-up of the pre-tokenizer, for these tiny vocabularies are in no table. */
  readonly hf: Record<
    string,
    { readonly arch: string; readonly pre: string; readonly outtypes: Record<string, { readonly sha256: string }> }
  >
}
const { models, hf } = await fixtureJson<Files>('gguf/models/models.json')

let out: string
beforeAll(async () => {
  out = await mkdtemp(join(tmpdir(), 'fewbit-gguf-'))
})
afterAll(() => rm(out, { recursive: true, force: true }))

/** Quantises `from` (path) to `to` (name in the temporary folder). */
async function make(
  from: string,
  to: string,
  config: Record<string, Plain>,
  options: QuantizeOptions = {},
): Promise<QuantizeResult> {
  const source = await modelSource(await openCheckpoint(await localFiles(from)))
  const parsed = method.parseConfig(fromPlain({ quant_method: 'gguf', ...config }) as JsonObject)
  const loaded = await method.loadFiles!(parsed, (path) => openFile(join(FOLDER, path)))
  const store = await outputStore(join(out, to), { force: true, single: true })
  const result = await quantizeModel(source, method, loaded, store, options)
  await source.checkpoint.close()
  return result
}

async function sha256(name: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(join(out, name)))
    .digest('hex')
}

/** Label of models.json -> the config it stands for; F16 is the source. */
const CONFIGS: Readonly<Record<string, Record<string, Plain>>> = {
  Q4_0: { type: 'q4_0' },
  'Q4_0-legacy-imatrix': { type: 'q4_0', imatrix: 'a-imatrix.dat' },
  Q8_0: { type: 'q8_0' },
  'Q8_0-pure': { type: 'q8_0', pure: true },
  Q4_K_M: { type: 'q4_k_m' },
  'Q4_K_M-imatrix': { type: 'q4_k_m', imatrix: 'a-imatrix.gguf' },
  Q5_0: { type: 'q5_0' },
  Q2_K: { type: 'q2_k' },
  Q3_K_S: { type: 'q3_k_s' },
  IQ4_XS: { type: 'iq4_xs' },
  'IQ4_XS-imatrix': { type: 'iq4_xs', imatrix: 'a-imatrix.gguf' },
  TQ2_0: { type: 'tq2_0' },
  IQ2_XXS: { type: 'iq2_xxs', imatrix: 'a-imatrix.gguf' },
}

const cases = Object.entries(models).flatMap(([model, { files }]) =>
  Object.keys(files)
    .filter((label) => label in CONFIGS)
    .map((label) => [model, label, files[label].sha256] as const),
)

test('every file of the fixture is made here, but for the sources', () => {
  const labels = Object.values(models).flatMap(({ files }) => Object.keys(files))
  expect(labels.filter((label) => !(label in CONFIGS))).toEqual(['F16', 'F16'])
})

describe.each([
  ['TypeScript', async () => undefined],
  ['kernels', async () => quantizerKernels((await openKernels()).door)],
] as [string, () => Promise<QuantizerKernels | undefined>][])('llama-quantize, by %s', (_, kernels) => {
  test.each(cases)('%s as %s', async (model, label, wanted) => {
    await make(join(FOLDER, `${model}-f16.gguf`), 'out.gguf', CONFIGS[label], { kernels: await kernels() })
    expect(await sha256('out.gguf')).toBe(wanted)
  })

  test('types that are asked for by role and by name go before the rules', async () => {
    const config = {
      type: 'q4_0',
      output_tensor_type: 'q5_k',
      token_embedding_type: 'q3_k',
      tensor_types: ['ffn_down=q6_k', 'blk\\.1\\.attn_v=f16'],
    }
    await make(join(FOLDER, 'a-f16.gguf'), 'out.gguf', config, { kernels: await kernels() })
    expect(await sha256('out.gguf')).toBe(models.a.overrides_Q4_0!.sha256)
  })

  test('a q8_0 file is requantised to q4_k_s', async () => {
    const options = { kernels: await kernels() }
    await make(join(FOLDER, 'a-f16.gguf'), 'q8.gguf', { type: 'q8_0' }, options)
    const config = { type: 'q4_k_s', allow_requantize: true }
    await make(join(out, 'q8.gguf'), 'out.gguf', config, options)
    expect(await sha256('out.gguf')).toBe(models.a.requantized_Q4_K_S!.sha256)
  })
})

test('a quantised file is not quantised again without leave', async () => {
  await expect(make(join(FOLDER, 'a-q4_0.gguf'), 'out.gguf', { type: 'q4_k_s' })).rejects.toThrow(
    'it is quantised already',
  )
})

test('a file of its own type is copied whole', async () => {
  await make(join(FOLDER, 'a-q4_0.gguf'), 'out.gguf', { type: 'q4_0' })
  expect(await sha256('out.gguf')).toBe(models.a.files.Q4_0.sha256)
})

test('fallbacks are reported with the bits per weight that came of them', async () => {
  const result = await make(join(FOLDER, 'b-f16.gguf'), 'out.gguf', { type: 'q4_k_m' })
  expect(result.warnings.join('\n')).toContain('rows of 64 are no multiple of 256: q5_0 instead of q4_k')
  expect(result.bitsPerWeight).toBeGreaterThan(6)
})

const families = MODEL_FAMILIES.flatMap((family) => family.modelTypes)
const folders = Object.entries(hf).filter(([, { arch }]) => families.includes(arch))
const conversions = folders.flatMap(([name, { pre, outtypes }]) =>
  Object.entries(outtypes).map(([type, { sha256: wanted }]) => [name, type, pre, wanted] as const),
)

describe('a model folder', () => {
  test('the folders are of the registered families', () => {
    const kinds = ['llama', 'llama3-rope', 'mistral', 'qwen2', 'qwen3', 'gemma2', 'tiny-p3']
    expect(folders.map(([name]) => name)).toEqual(kinds)
  })

  test.each(conversions)("%s as %s is the converter's file", async (name, type, pre, wanted) => {
    await make(join(FOLDER, 'hf', name), 'out.gguf', { type }, { pre })
    expect(await sha256('out.gguf')).toBe(wanted)
  })

  test.each(folders.map(([name, { pre }]) => [name, pre]))(
    '%s as q4_0 and q4_k_m is what llama-quantize makes of its bf16 file',
    async (name, pre) => {
      const folder = join(FOLDER, 'hf', name)
      await make(folder, 'bf16.gguf', { type: 'bf16' }, { pre })
      for (const type of ['q4_0', 'q4_k_m']) {
        await make(join(out, 'bf16.gguf'), 'wanted.gguf', { type })
        await make(folder, 'out.gguf', { type }, { pre })
        expect(await sha256('out.gguf')).toBe(await sha256('wanted.gguf'))
      }
    },
  )
})
