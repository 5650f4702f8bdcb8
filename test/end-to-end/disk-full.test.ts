// A disk that fills up while a model is quantised: the old output stays as it was, what is done is kept with its journal, and the same
// work goes on once there is room.
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { openModel } from '../../src/api/open.ts'
import { outputStore } from '../../src/checkpoint/node/output.ts'
import type { ByteSink, OutputStore } from '../../src/checkpoint/types.ts'
import { FileError } from '../../src/core/errors.ts'
import { methods } from '../../src/methods/index.ts'
import { type QuantizeResult, quantizeModel } from '../../src/quantize/quantize.ts'
import { FIXTURES } from '../support/tensors.ts'
import { expectSameBits } from '../support/tolerances.ts'
import { configOf, variantsOf } from '../support/walk.ts'

const folder = await mkdtemp(join(tmpdir(), 'fewbit-full-'))
afterAll(() => rm(folder, { recursive: true, force: true }))

/** `store` on a disk with room for `bytes`. */
function withRoom(store: OutputStore, bytes: number): OutputStore {
  let left = bytes
  const limited = (sink: ByteSink): ByteSink => {
    const spend = async (data: Uint8Array, write: () => Promise<void>) => {
      left -= data.byteLength
      if (left < 0) throw new FileError('Cannot write: the disk is full', { file: store.name })
      await write()
    }
    return {
      write: (data) => spend(data, () => sink.write(data)),
      writeAt: (offset, data) => spend(data, () => sink.writeAt(offset, data)),
      close: () => sink.close(),
    }
  }
  return new Proxy(store, {
    get(target, key) {
      if (key === 'create' || key === 'resume') return async (file: string) => limited(await target[key](file))
      const value = Reflect.get(target, key)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

describe.each(
  methods()
    .filter((m) => m.scope === 'tensor')
    .map((method) => [method.name, method] as const),
)('%s', (name, method) => {
  const single = method.container === 'gguf'
  const file = (out: string) => (single ? out : join(out, 'model.safetensors'))
  const quantizeTo = async (out: string, room = Infinity): Promise<QuantizeResult> => {
    const source = await openModel(join(FIXTURES, 'transformers/models/llama3-rope'))
    const store = await outputStore(out, { force: true, single })
    try {
      return await quantizeModel(source, method, configOf(method, variantsOf(method)[0]), withRoom(store, room))
    } finally {
      await source.checkpoint.close()
    }
  }

  test('the old output stays, the journal too, and the work goes on', async () => {
    const whole = join(folder, `${name}-whole`)
    const { sizeBytes } = await quantizeTo(whole)
    const expected = await readFile(file(whole))
    for (const share of [0, 0.3, 0.6, 0.99]) {
      const out = join(folder, `${name}-${share}`)
      if (single) await writeFile(out, 'old')
      await expect(quantizeTo(out, Math.floor(sizeBytes * share))).rejects.toThrow('the disk is full')
      if (single) expect(await readFile(out, 'utf8')).toBe('old')
      else await expect(stat(out)).rejects.toThrow('ENOENT')
      expect((await readFile(join(`${out}.fewbit-partial`, 'journal.jsonl'), 'utf8')).split('\n')[0]).toContain('work')
      const { resumed } = await quantizeTo(out)
      if (share > 0.9) expect(resumed).toBeGreaterThan(0)
      expectSameBits(await readFile(file(out)), expected, `${share} of the room`)
      await expect(stat(`${out}.fewbit-partial`)).rejects.toThrow('ENOENT')
    }
  })
})

test.skipIf(process.platform !== 'linux')('a device without room is called what it is, with the way on', async () => {
  const { symlink } = await import('node:fs/promises')
  const out = join(folder, 'dev-full')
  const store = await outputStore(out, { force: false })
  await store.journal('work')
  await symlink('/dev/full', join(`${out}.fewbit-partial/files`, 'data'))
  const sink = await store.create('data')
  await expect(sink.write(new Uint8Array(8))).rejects.toMatchObject({
    message: expect.stringContaining('the disk is full'),
    hint: expect.stringContaining('same command again'),
  })
  await sink.close().catch(() => undefined) // a device cannot be synced
  await store.abort()
})
