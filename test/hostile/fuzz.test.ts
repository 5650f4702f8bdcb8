// 11,200 damaged files of every kind, the same ones on every machine: each opens, or is refused with a FewbitError; nothing else escapes,
// nothing hangs, nothing allocates beyond the files' size.
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { ggufString } from '../../src/checkpoint/gguf/metadata.ts'
import { readGgufHeader } from '../../src/checkpoint/gguf/reader.ts'
import { GGML_TYPES } from '../../src/checkpoint/gguf/types.ts'
import { ggufLayout } from '../../src/checkpoint/gguf/writer.ts'
import { openCheckpoint } from '../../src/checkpoint/open.ts'
import { parseIndex } from '../../src/checkpoint/shards.ts'
import type { DType } from '../../src/core/dtypes.ts'
import { FewbitError } from '../../src/core/errors.ts'
import { readImatrix } from '../../src/methods/gguf/imatrix.ts'
import { methods } from '../../src/methods/index.ts'
import type { StoredReader } from '../../src/methods/types.ts'
import { modelSource } from '../../src/models/source.ts'
import { tokenizerFromJson } from '../../src/text/tokenizer.ts'
import { decode } from '../../src/weights/weight.ts'
import { fixture } from '../support/fixtures.ts'
import { memoryFiles, memorySource } from '../support/memory-files.ts'
import { mutateBytes, mutateJson, random } from '../support/mutate.ts'

const bytesOf = (path: string) => new Uint8Array(readFileSync(fixture(path)))
const textOf = (path: string) => readFileSync(fixture(path), 'utf8')
/** No damaged file of these sizes may keep the reader busy for longer. */
const MAX_MS = 5000
const MAX_GROWTH_BYTES = 400 * 1024 * 1024

type Outcome = 'read' | 'refused'

async function outcome(work: () => Promise<unknown>): Promise<Outcome> {
  try {
    await work()
    return 'read'
  } catch (e) {
    if (e instanceof FewbitError && e.code !== 'bug' && e.message !== '') return 'refused'
    throw e
  }
}

/** Runs `count` cases; `least` of them must be refused, or the damage does not reach the reader. */
async function fuzz(
  name: string,
  count: number,
  run: (next: () => number) => Promise<unknown>,
  least = count / 20,
): Promise<void> {
  const before = process.memoryUsage().rss
  const seen = { read: 0, refused: 0 }
  for (let seed = 0; seed < count; seed++) {
    const started = performance.now()
    const result = await outcome(() => run(random(seed))).catch((cause) => {
      throw new Error(`${name}, seed ${seed}: ${cause?.stack ?? cause}`, { cause })
    })
    seen[result]++
    const elapsed = performance.now() - started
    if (elapsed > MAX_MS) throw new Error(`${name}, seed ${seed}: took ${elapsed} ms`)
  }
  expect(seen.refused).toBeGreaterThanOrEqual(least)
  expect(process.memoryUsage().rss - before).toBeLessThan(MAX_GROWTH_BYTES)
}

/** Opens a model and reads every weight. */
async function loadModel(files: Record<string, Uint8Array | string>): Promise<void> {
  const source = await modelSource(await openCheckpoint(memoryFiles(files)))
  for (let i = 0; i < source.graph.parameters.length; i++) await source.load(i)
}

async function readAll(files: Record<string, Uint8Array | string>, single?: string): Promise<void> {
  const checkpoint = await openCheckpoint(memoryFiles(files, single))
  for (const tensor of checkpoint.tensors.values()) await checkpoint.read(tensor)
}

/** A file with a tensor [3, 512] of every type that ggml has. */
function ggufOfEveryType(): { file: Uint8Array; dataStart: number } {
  const entries = GGML_TYPES.map(({ name }) => ({ name: `${name}.weight`, type: name, shape: [3, 512] }))
  const { header, offsets, total } = ggufLayout(new Map([['general.architecture', ggufString('none')]]), entries)
  const file = new Uint8Array(total)
  file.set(header)
  return { file, dataStart: offsets[0] }
}

/** Reads every tensor of a GGUF file and decodes those of block types. */
async function decodeAll(file: Uint8Array): Promise<void> {
  const checkpoint = await openCheckpoint(memoryFiles({ 'x.gguf': file }, 'x.gguf'))
  const gguf = methods().find(({ name }) => name === 'gguf')!
  const reader: StoredReader<unknown> = {
    config: {},
    has: (name) => checkpoint.tensors.has(name),
    dtypeOf: (name) => checkpoint.tensors.get(name)?.dtype,
    shapeOf: (name) => checkpoint.tensors.get(name)?.shape,
    read: async (name) => {
      const tensor = checkpoint.tensors.get(name)!
      return { dtype: tensor.dtype as DType, shape: tensor.shape, data: await checkpoint.read(tensor) }
    },
    warn: () => {},
  }
  for (const { name, shape } of checkpoint.tensors.values())
    if (gguf.stored.isStored(name, reader)) decode(await gguf.stored.read(name, shape, reader))
    else await reader.read(name)
}

/** Length of a safetensors header, prefix included. */
const headerOf = (bytes: Uint8Array) => 8 + Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true))

describe('containers', () => {
  const shard = bytesOf('transformers/sharded/model-00004-of-00004.safetensors')

  test('safetensors', () =>
    fuzz('safetensors', 2000, (next) => readAll({ 'model.safetensors': mutateBytes(shard, next, headerOf(shard)) })))

  test('safetensors headers as JSON', () =>
    fuzz('safetensors JSON', 1000, (next) => {
      const end = headerOf(shard)
      const header = new TextEncoder().encode(mutateJson(new TextDecoder().decode(shard.subarray(8, end)), next))
      const file = new Uint8Array(8 + header.length + shard.length - end)
      new DataView(file.buffer).setBigUint64(0, BigInt(header.length), true)
      file.set(header, 8)
      file.set(shard.subarray(end), 8 + header.length)
      return readAll({ 'model.safetensors': file })
    }))

  const index = textOf('transformers/sharded/model.safetensors.index.json')
  test('index', () => fuzz('index', 1000, async (next) => parseIndex(mutateJson(index, next), 'index')))

  const gguf = bytesOf('gguf/models/b-q4_k_m.gguf')
  test('GGUF header', () =>
    fuzz('GGUF', 2000, async (next) => readGgufHeader(memorySource('x.gguf', mutateBytes(gguf, next, 9952)))))

  test('GGUF head and table', () =>
    fuzz('GGUF table', 1000, async (next) => {
      const file = gguf.slice()
      file.set(mutateBytes(gguf.subarray(8100, 9952), next).subarray(0, 1852), 8100)
      return readAll({ 'x.gguf': file })
    }))

  const every = ggufOfEveryType()
  test('GGUF tensors of every type: header and table', () =>
    fuzz('GGUF types', 1000, (next) => decodeAll(mutateBytes(every.file, next, every.dataStart))))

  test('GGUF tensors of every type: any data decodes', () =>
    fuzz(
      'GGUF data',
      200,
      (next) => {
        const file = every.file.slice()
        for (let i = every.dataStart; i < file.length; i++) file[i] = Math.floor(next() * 256)
        return decodeAll(file)
      },
      0,
    ))

  test('importance matrices', () =>
    fuzz('imatrix', 500, async (next) => {
      const name = next() < 0.5 ? 'b-imatrix.gguf' : 'b-imatrix.dat'
      return readImatrix(memorySource(name, mutateBytes(bytesOf(`gguf/models/${name}`), next, 2000)))
    }))
})

describe('models', () => {
  const folder = (path: string) => ({
    'config.json': textOf(`${path}/config.json`),
    'model.safetensors': bytesOf(`${path}/model.safetensors`),
  })

  test('config.json', () => {
    const files = folder('transformers/models/llama')
    return fuzz('config', 800, async (next) => {
      const changed = { ...files, 'config.json': mutateJson(files['config.json'], next) }
      await modelSource(await openCheckpoint(memoryFiles(changed)))
    })
  })

  test.each([
    ['bitsandbytes/nf4-dq', 300],
    ['bitsandbytes/int8', 100],
    ['hqq/llama_b4', 300],
    ['awq/llama_g32_f32_gemm/checkpoint', 60],
    ['awq/qwen2_g64_bf16_gemv/checkpoint', 60],
    ['awq/gemma_g128_f16_gemv_fast/checkpoint', 60],
  ] as const)('%s: quantised weights and their config', (path, count) => {
    const files = folder(path)
    const end = headerOf(files['model.safetensors'])
    const damage = async (next: () => number) => {
      if (next() < 0.4) return loadModel({ ...files, 'config.json': mutateJson(files['config.json'], next) })
      // Bytes of small tensors (quant_state, sizes, flags) lie at the end, in U8; flipped codes are legal values.
      const file = files['model.safetensors'].slice()
      const from = next() < 0.5 ? end : Math.max(end, file.length - 4000)
      for (let n = 0; n < 8; n++) file[from + Math.floor(next() * (file.length - from))] ^= 1 << Math.floor(next() * 8)
      return loadModel({ ...files, 'model.safetensors': file })
    }
    return fuzz(path, count, damage, 1)
  })

  test('GGUF keys as a model', () => {
    const gguf = bytesOf('gguf/models/b-q4_k_m.gguf')
    return fuzz('GGUF model', 300, (next) => loadModel({ 'x.gguf': mutateBytes(gguf, next, 1200) }))
  })
})

describe('tokenizers', () => {
  test.each(['smollm2', 'gemma', 'llama2-legacy', 'qwen2'])('%s', (name) => {
    const text = textOf(`transformers/tokenizers/${name}/tokenizer.json`)
    const config = textOf(`transformers/tokenizers/${name}/tokenizer_config.json`)
    return fuzz(name, 175, async (next) => {
      const tokenizer =
        next() < 0.8
          ? tokenizerFromJson(mutateJson(text, next), config)
          : tokenizerFromJson(text, mutateJson(config, next))
      tokenizer.decode(tokenizer.encode('Once upon a time, 12 foxes'))
    })
  })
})
