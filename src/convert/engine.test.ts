import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { memorySource } from '../../test/support/memory-files.ts'
import { outputStore } from '../checkpoint/node/output.ts'
import { readSafetensorsHeader } from '../checkpoint/safetensors.ts'
import { type DType, rawTensor } from '../core/dtypes.ts'
import { InterruptedError } from '../core/errors.ts'
import { convert, workKey } from './engine.ts'
import { GgufSink } from './gguf-sink.ts'
import type { ComputeJob, CopyJob, Job } from './plan.ts'
import { outputsOf } from './plan.ts'
import { SafetensorsSink, SpooledSafetensorsSink } from './safetensors-sink.ts'
import type { TensorSink } from './sink.ts'

let folder: string
let out: string
let count = 0
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fewbit-engine-'))
})
beforeEach(() => {
  out = join(folder, `out-${count++}`)
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const filled = (n: number, value: number) => new Uint8Array(n).fill(value)

function copies(name: string, bytes: Uint8Array, log: string[] = []): CopyJob {
  const output = { name, dtype: 'U8', shape: [bytes.length] }
  return {
    action: 'copy',
    name,
    inputBytes: bytes.length,
    output,
    read: async (from, to) => {
      log.push(name)
      return bytes.slice(from, to)
    },
  }
}

/** Adds 1 to every byte; two outputs. */
function computes(name: string, rows: number, columns: number, log: string[], slice?: number): ComputeJob {
  const shape = [rows, columns]
  return {
    action: 'quantize',
    name,
    inputBytes: rows * columns,
    outputs: [
      { name: `${name}.a`, dtype: 'U8', shape },
      { name: `${name}.b`, dtype: 'I8', shape: [rows, columns] },
    ],
    slice: slice ? { rows, step: slice } : undefined,
    load: async (from, to) => {
      const data = new Uint8Array((slice ? to - from : rows) * columns)
      data.forEach((_, i) => {
        data[i] = ((slice ? from * columns : 0) + i) % 251
      })
      return rawTensor('U8', [data.length / columns, columns], data)
    },
    run: async ({ data, shape }, firstRow) => {
      log.push(`${name}@${firstRow}`)
      const made = (suffix: string, dtype: DType, add: number) => ({
        name: name + suffix,
        tensor: rawTensor(
          dtype,
          shape,
          data.map((b) => b + add),
        ),
      })
      return [made('.a', 'U8', 1), made('.b', 'I8', 2)]
    },
  }
}

const OPTIONS = { metadata: new Map([['format', 'pt']]), parameters: 1 }
const direct = (store: Parameters<typeof convert>[2], jobs: readonly Job[]): TensorSink =>
  new SafetensorsSink(
    store,
    jobs.flatMap((j) => outputsOf(j)!),
    OPTIONS,
  )
const spooled = (store: Parameters<typeof convert>[2]): TensorSink => new SpooledSafetensorsSink(store, OPTIONS)
const open = (path: string) => outputStore(path, { force: false })

describe.each([
  ['direct', direct],
  ['spooled', spooled],
] as const)('%s', (_, sinkFor) => {
  test('every tensor lies where the header says, and both sinks write the same file', async () => {
    const log: string[] = []
    const jobs = [copies('c', filled(5, 7)), computes('q', 3, 2, log), copies('empty', filled(0, 0))]
    const store = await open(out)
    const result = await convert(jobs, sinkFor(store, jobs), store, { name: 'test', key: 'k' })
    const file = new Uint8Array(await readFile(join(out, 'model.safetensors')))
    expect(result).toEqual({ sizeBytes: file.length, tensorBytes: 17, resumed: 0 })
    const { tensors } = await readSafetensorsHeader(memorySource('m', file))
    const bytes = Object.fromEntries(
      tensors.map((t) => [t.name, [...file.subarray(t.offset, t.offset + t.byteLength)]]),
    )
    expect(bytes).toEqual({ 'q.b': [2, 3, 4, 5, 6, 7], c: [7, 7, 7, 7, 7], empty: [], 'q.a': [1, 2, 3, 4, 5, 6] })
  })

  test('an interruption inside a job says how to go on too', async () => {
    const stop = new AbortController()
    const job = computes('b', 2, 2, [])
    const deep: ComputeJob = {
      ...job,
      run: async () => {
        stop.abort()
        throw stop.signal.reason
      },
    }
    const store = await open(out)
    const interrupted = convert([deep], sinkFor(store, [deep]), store, { name: 'test', key: 'k', signal: stop.signal })
    await expect(interrupted).rejects.toMatchObject({ hint: expect.stringContaining('same command again') })
  })

  test('an interrupted run goes on where it stopped, and a damaged tensor is made again', async () => {
    const log: string[] = []
    const jobs = [copies('a', filled(9, 1), log), computes('b', 2, 2, log), copies('c', filled(9, 3), log)]
    const stop = new AbortController()
    const store = await open(out)
    const interrupted = convert(jobs, sinkFor(store, jobs), store, {
      name: 'test',
      key: 'k',
      signal: stop.signal,
      onEvent: (e) => e.event === 'progress' && e.tensor === 'b' && stop.abort(),
    })
    await expect(interrupted).rejects.toBeInstanceOf(InterruptedError)
    await expect(interrupted).rejects.toMatchObject({ hint: expect.stringContaining('same command again') })
    expect(log).toEqual(['a', 'b@0'])

    // The bytes of "a" are damaged meanwhile.
    const name = sinkFor === direct ? 'model.safetensors' : 'spool'
    const path = join(`${out}.fewbit-partial/files`, name)
    const bytes = new Uint8Array(await readFile(path))
    bytes[bytes.lastIndexOf(1)] = 99
    if (bytes.indexOf(99) >= 0) await writeFile(path, bytes)

    log.length = 0
    const again = await open(out)
    const result = await convert(jobs, sinkFor(again, jobs), again, { name: 'test', key: 'k' })
    expect(result.resumed).toBe(1)
    expect(log.sort()).toHaveLength(2)

    const fresh = await open(`${out}-fresh`)
    await convert(jobs, sinkFor(fresh, jobs), fresh, { name: 'test', key: 'k' })
    expect(await readFile(join(out, 'model.safetensors'))).toEqual(
      await readFile(join(`${out}-fresh`, 'model.safetensors')),
    )
  })

  test('other work starts anew and says so', async () => {
    const log: string[] = []
    const jobs = [copies('a', filled(9, 1), log), copies('b', filled(9, 2), log)]
    const broken = { ...jobs[1], read: async () => Promise.reject(new Error('no')) } as CopyJob
    const store = await open(out)
    const failing = [jobs[0], broken]
    await expect(convert(failing, sinkFor(store, failing), store, { name: 'test', key: 'k1' })).rejects.toThrow('no')
    const events: string[] = []
    const again = await open(out)
    const onEvent = (e: { event: string }) => events.push(e.event)
    const result = await convert(jobs, sinkFor(again, jobs), again, { name: 'test', key: 'k2', onEvent })
    expect(result.resumed).toBe(0)
    expect(events[0]).toBe('warning')
  })
})

test('slices give the bytes of the whole', async () => {
  const log: string[] = []
  const [rows, columns] = [70, 64]
  const jobs = [computes('q', rows, columns, log, 4)]
  const store = await open(out)
  await convert(jobs, direct(store, jobs), store, { name: 'test', key: 'k', sliceBytes: 2000 })
  expect(log).toEqual(['q@0', 'q@28', 'q@56'])
  const file = await readFile(join(out, 'model.safetensors'))
  const { tensors } = await readSafetensorsHeader(memorySource('m', file))
  const a = tensors.find((t) => t.name === 'q.a')!
  const bytes = file.subarray(a.offset, a.offset + a.byteLength)
  expect(bytes.findIndex((b, i) => b !== (i % 251) + 1)).toBe(-1)
})

test('a GGUF file is padded between tensors and at its end', async () => {
  const jobs = [copies('a', filled(4, 1)), copies('b', filled(4, 2))].map(
    (job): CopyJob => ({
      ...job,
      output: { name: job.name, dtype: 'F32', shape: [1] },
    }),
  )
  const store = await outputStore(`${out}.gguf`, { force: false, single: true })
  const tensors = jobs.map((j) => j.output)
  await convert(jobs, new GgufSink(store, store.single!, new Map(), tensors), store, { name: 'test', key: 'k' })
  const file = await readFile(`${out}.gguf`)
  expect([...file.subarray(-64)]).toEqual([...filled(4, 1), ...filled(28, 0), ...filled(4, 2), ...filled(28, 0)])
})

test('the key of a work depends on all of its parts', async () => {
  expect(await workKey(['a', 1])).not.toBe(await workKey(['a', 2]))
  expect(await workKey(['a', 1])).toMatch(/^[0-9a-f]{64}$/)
})
