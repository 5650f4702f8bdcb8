// Files of torch.save as fewbit writes them: what goes in comes out by its own reader, every entry lies and is summed as zip says, and
// archives beyond 4 GiB have the same form.
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { outputStore } from '../../src/checkpoint/node/output.ts'
import { readArchive } from '../../src/checkpoint/pickle/archive.ts'
import { torchLayout } from '../../src/checkpoint/pickle/layout.ts'
import { STORAGE_NAMES } from '../../src/checkpoint/pickle/storages.ts'
import { openTorch } from '../../src/checkpoint/pickle/torch.ts'
import { zipEntries } from '../../src/checkpoint/pickle/zip.ts'
import type { ByteSource } from '../../src/checkpoint/types.ts'
import { convert } from '../../src/convert/engine.ts'
import type { CalibrateJob } from '../../src/convert/plan.ts'
import { TorchSink } from '../../src/convert/torch-sink.ts'
import { DTYPE_BYTES, type DType, elementCount, rawTensor } from '../../src/core/dtypes.ts'
import { FileError } from '../../src/core/errors.ts'
import { memorySource } from '../support/memory-files.ts'
import { memoryOutput } from '../support/memory-output.ts'
import { expectSameBits } from '../support/tolerances.ts'

const FILE = 'state.pt'

interface Tensor {
  readonly name: string
  readonly dtype: string
  readonly shape: readonly number[]
  readonly data: Uint8Array
}

const tensor = fc
  .record({
    name: fc.string({ minLength: 1, maxLength: 40, unit: 'grapheme' }),
    dtype: fc.constantFrom(...STORAGE_NAMES.keys()),
    shape: fc.array(fc.integer({ min: 0, max: 9 }), { maxLength: 4 }),
    seed: fc.integer({ min: 0, max: 255 }),
  })
  .map(({ name, dtype, shape, seed }): Tensor => {
    const data = new Uint8Array(elementCount(shape) * DTYPE_BYTES[dtype as DType])
    return { name, dtype, shape, data: data.map((_, i) => (seed + 31 * i) & 255) }
  })
const stateDict = fc.uniqueArray(tensor, { selector: ({ name }) => name, maxLength: 12 })

async function written(tensors: readonly Tensor[], aliases?: ReadonlyMap<string, string>): Promise<Uint8Array> {
  const output = memoryOutput(FILE)
  const sink = new TorchSink(output, FILE, tensors, aliases)
  await sink.open()
  const places = []
  for (const { data, ...spec } of [...tensors].reverse()) {
    const place = sink.place(spec, data.length)
    await sink.write(place, 0, data)
    places.push({ ...place, crc: crc32(data) })
  }
  expect(await sink.finish(places)).toBe((await output.reopen(FILE)).size)
  await output.commit()
  return output.saved[FILE]
}

const opened = (bytes: Uint8Array) => {
  const source = memorySource(FILE, bytes)
  return openTorch(
    { name: FILE, single: FILE, list: async () => [FILE], has: async () => false, open: async () => source },
    FILE,
  )
}

test('every tensor comes back, in order', async () => {
  await fc.assert(
    fc.asyncProperty(stateDict, async (tensors) => {
      const checkpoint = await opened(await written(tensors))
      const back: Tensor[] = []
      for (const stored of checkpoint.tensors.values()) {
        const { name, dtype, shape } = stored
        back.push({ name, dtype, shape, data: await checkpoint.read(stored) })
      }
      expect(back).toEqual(tensors)
    }),
  )
})

test('the bytes of every entry begin at a multiple of 64 and have the checksum of the directory', async () => {
  await fc.assert(
    fc.asyncProperty(stateDict, async (tensors) => {
      const bytes = await written(tensors)
      const entries = await zipEntries(memorySource(FILE, bytes))
      expect(entries.map(({ name }) => name)).toEqual(
        ['data.pkl', 'byteorder', 'version', ...tensors.map((_, i) => `data/${i}`)].map((name) => `archive/${name}`),
      )
      const found = checksums(bytes)
      for (const [i, { offset, size }] of entries.entries()) {
        expect(offset % 64).toBe(0)
        expect(found[i]).toBe(crc32(bytes.subarray(offset, offset + size)))
      }
    }),
  )
})

/** CRC-32 of each entry, as the directory of the archive has it. */
function checksums(bytes: Uint8Array): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const out: number[] = []
  for (let at = 0; at + 46 <= bytes.length; at++)
    if (view.getUint32(at, true) === 0x02014b50) out.push(view.getUint32(at + 16, true))
  return out
}

test('a second name of a tensor shares its storage', async () => {
  const data = Uint8Array.from({ length: 8 }, (_, i) => i)
  const table = { name: 'embed.weight', dtype: 'F16', shape: [2, 2], data }
  const aliases = new Map([['head.weight', 'embed.weight']])
  const bytes = await written([table], aliases)
  const checkpoint = await opened(bytes)
  const [a, b] = ['embed.weight', 'head.weight'].map((name) => checkpoint.tensors.get(name)!)
  expect(b).toEqual({ ...a, name: 'head.weight' })
  expect((await readArchive(memorySource(FILE, bytes))).storages.size).toBe(1)
})

test('a run that stopped goes on and ends in the same file', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'fewbit-torch-'))
  try {
    const tensors = ['a', 'b', 'c'].map((name, i): Tensor => {
      return { name, dtype: 'U8', shape: [100 + i], data: new Uint8Array(100 + i).fill(i + 1) }
    })
    const save = async (out: string, stopAt?: string) => {
      const stop = new AbortController()
      const jobs = tensors.map(({ data, ...output }): CalibrateJob => {
        const run = async () => {
          if (output.name === stopAt) stop.abort()
          return [{ name: output.name, tensor: rawTensor('U8', output.shape, data) }]
        }
        return { action: 'calibrate', name: output.name, inputBytes: data.length, outputs: [output], run }
      })
      const output = await outputStore(join(folder, out), { force: false, single: true })
      const sink = new TorchSink(output, out, tensors)
      return convert(jobs, sink, output, { name: 'test', key: 'k', signal: stop.signal })
    }
    await save('whole.pt')
    await expect(save('stopped.pt', 'b')).rejects.toThrow(/Interrupted/)
    expect((await save('stopped.pt')).resumed).toBe(2)
    const [whole, stopped] = ['whole.pt', 'stopped.pt'].map((name) => readFile(join(folder, name)))
    expectSameBits(await stopped, await whole, 'after a stop')
  } finally {
    await rm(folder, { recursive: true })
  }
})

/** What a layout has beside the tensors, as a file with holes. */
function sparse(size: number, pieces: readonly { at: number; bytes: Uint8Array }[]): ByteSource {
  return {
    name: FILE,
    size,
    read: async (offset, length) => {
      const out = new Uint8Array(length)
      for (const { at, bytes } of pieces) {
        const from = Math.max(at, offset)
        const to = Math.min(at + bytes.length, offset + length)
        if (from < to) out.set(bytes.subarray(from - at, to - at), from - offset)
      }
      return out
    },
    close: async () => {},
  }
}

test('tensors of more elements and archives of more bytes than 32 bits hold', async () => {
  const shape = [2 ** 16, 2 ** 16]
  const layout = torchLayout(
    ['a', 'b', 'c'].map((name) => ({ name, dtype: 'F16', shape })),
    new Map(),
  )
  const source = sparse(layout.total, layout.pieces([1, 2, 3], crc32))
  const { storages, value } = await readArchive(source)
  expect([...storages.values()].map(({ offset, size }) => [offset, size])).toEqual(
    layout.offsets.map((offset) => [offset, 2 ** 33]),
  )
  expect((value as Map<string, unknown>).get('c')).toMatchObject({ shape, length: 2 ** 32, stride: [2 ** 16, 1] })
})

test('a dtype without a storage of torch is refused by name', () => {
  const entry = { name: 'w', dtype: 'F8_E4M3', shape: [4] }
  expect(() => torchLayout([entry], new Map())).toThrow(FileError)
  expect(() => torchLayout([entry], new Map())).toThrow(/"w".*F8_E4M3/)
})
