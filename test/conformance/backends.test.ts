// Every backend against the reference: logits of every fixture model that a registered family and method can read, at every instruction
// set that this machine has, with one thread and two, alone and in a batch, prefill and decode.
import { readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { positionLimit, rowsOf } from '../../src/backends/batch.ts'
import { LEVELS } from '../../src/backends/cpu/door.ts'
import { findAddon } from '../../src/backends/cpu/native.ts'
import { openBackend } from '../../src/backends/index.ts'
import type { Executable, RowBatch } from '../../src/backends/types.ts'
import { localFiles } from '../../src/checkpoint/node/files.ts'
import { openCheckpoint } from '../../src/checkpoint/open.ts'
import { methods } from '../../src/methods/index.ts'
import { MODEL_FAMILIES } from '../../src/models/auto.ts'
import { type ModelSource, modelSource } from '../../src/models/source.ts'
import { FIXTURES, largestDifference, span } from '../support/tensors.ts'

/** Sums in another order, digits of activations, our own exp: of the logits' span. contracts.md demands 1e-4 between backends. */
const KERNEL = 1e-5

interface Device {
  readonly name: string
  readonly backend: 'cpu' | 'wasm'
  readonly isa?: string
}

const addon = findAddon()
const devices: Device[] = [{ name: 'wasm', backend: 'wasm' }]
if ('missing' in addon) console.log(`cpu (native) skipped: ${addon.missing.join('; ')}`)
else {
  const levels = LEVELS.slice(0, addon.kernels.fb_level(1) + 1)
  for (const isa of levels) devices.push({ name: `cpu ${isa}`, backend: 'cpu', isa })
  for (const isa of LEVELS.slice(levels.length)) console.log(`cpu ${isa} skipped: this machine has no ${isa}`)
}

/** Folders below test/fixtures with a model that can be run, as far as config.json tells. */
function models(): string[] {
  const known = MODEL_FAMILIES.flatMap((family) => family.modelTypes)
  const quantised = methods().map((method) => method.name)
  return readdirSync(FIXTURES, { withFileTypes: true, recursive: true })
    .filter((e) => e.isFile() && e.name === 'config.json')
    .filter((e) => {
      const config = JSON.parse(readFileSync(join(e.parentPath, e.name), 'utf8'))
      const method = config.quantization_config?.quant_method
      return known.includes(config.model_type) && (!method || quantised.includes(method))
    })
    .filter((e) => readdirSync(e.parentPath).includes('model.safetensors'))
    .map((e) => relative(FIXTURES, e.parentPath))
    .sort()
}

async function open(device: Device, source: ModelSource, threads: number): Promise<Executable> {
  process.env.FEWBIT_ISA = device.isa ?? ''
  const backend = await openBackend(device.backend)
  return backend.compile(source.graph, source.load, { precision: 'exact', threads })
}

/** One decode step of several sequences, `ids[i]` of slot i at `positions[i]`. */
function decodeStep(ids: readonly number[], positions: readonly number[]): RowBatch {
  const rows = ids.map((_, i) => i)
  return {
    ids: Int32Array.from(ids),
    positions: Int32Array.from(positions),
    slots: Int32Array.from(rows),
    outputs: Int32Array.from(rows),
    phase: 'decode',
  }
}

/** Long enough to cross a page of the cache (64 positions). */
const LENGTH = 70

async function sourceOf(path: string): Promise<ModelSource> {
  return modelSource(await openCheckpoint(await localFiles(join(FIXTURES, path))))
}

describe.each(models())('%s', async (path) => {
  const source = await sourceOf(path)
  afterAll(() => source.checkpoint.close())
  const vocabulary = source.config.vocabSize
  const length = Math.min(LENGTH, positionLimit(source.graph) - 1)
  const ids = Array.from({ length }, (_, i) => (i * 37 + 11) % vocabulary)
  const reference = await (await openBackend('reference')).compile(source.graph, source.load, {
    precision: 'exact',
    threads: 1,
  })
  const prefill = (await reference.run(rowsOf(ids, 0, 'all'))).slice()
  const decode = (await reference.run(rowsOf([ids[3]], length, 'last'))).slice()
  const tolerance = span(prefill) * KERNEL

  describe.each(devices)('$name', (device) => {
    test('logits of a prompt and of a next token agree with the reference, whatever the number of threads', async () => {
      const results: Float32Array[][] = []
      for (const threads of [1, 2]) {
        const model = await open(device, source, threads)
        const all = (await model.run(rowsOf(ids, 0, 'all'))).slice()
        results.push([all, (await model.run(rowsOf([ids[3]], length, 'last'))).slice()])
        model.dispose()
      }
      expect(largestDifference(results[0][0], prefill).difference).toBeLessThan(tolerance)
      expect(largestDifference(results[0][1], decode).difference).toBeLessThan(tolerance)
      expect(results[1]).toEqual(results[0])
    })

    test('a sequence gives the same bits alone and in a batch', async () => {
      const model = await open(device, source, 2)
      const lengths = [5, length, 17]
      const next = [7, 8, 9].map((id) => id % vocabulary)
      const alone: Float32Array[] = []
      for (const [slot, count] of lengths.entries()) {
        await model.run(rowsOf(ids.slice(0, count), 0, 'last', slot))
        alone.push((await model.run({ ...rowsOf([next[slot]], count, 'last', slot), phase: 'decode' })).slice())
      }
      const batched = (await model.run(decodeStep(next, lengths))).slice()
      model.dispose()
      lengths.forEach((_, i) => {
        expect(batched.slice(i * vocabulary, (i + 1) * vocabulary)).toEqual(alone[i])
      })
    })
  })
})
