// Both doors: memory, the pool, and the quantiser kernels that cross them.
import { describe, expect, test } from 'vitest'
import { rawTensor } from '../../core/dtypes.ts'
import { toFloat32 } from '../../core/half.ts'
import { allocate, allocateFrom, checkSources, complete, type Door } from './door.ts'
import { findAddon, openWasmKernels } from './native.ts'
import { quantizerKernels } from './quantizers.ts'

const addon = findAddon()
if ('missing' in addon) console.log(`native door skipped: ${addon.missing.join('; ')}`)
const doors: [string, () => Promise<Door>, boolean][] = [
  ['native', async () => addon as Door, 'missing' in addon],
  ['wasm', openWasmKernels, false],
]

test('a binary older than the sources names the kernel that it lacks and what to type', () => {
  const kernels = complete({ fb_alloc: () => 64 }, 'build/fewbit.node')
  expect(kernels.fb_alloc(1)).toBe(64)
  expect(() => kernels.fb_self_test(1)).toThrow(
    expect.objectContaining({
      message: 'The kernels in "build/fewbit.node" have no "fb_self_test"',
      hint: 'npm run build',
    }),
  )
})

test('kernels of other sources are refused, with what to type', () => {
  const refusal = expect.objectContaining({
    message: 'The kernels in "build/fewbit.node" are older or newer than this build of fewbit',
    hint: 'npm run build',
  })
  expect(() => checkSources({ fb_sources: () => 7 }, 'build/fewbit.node', 8)).toThrow(refusal)
  expect(() => checkSources({ fb_alloc: () => 64 }, 'build/fewbit.node', 8)).toThrow(refusal)
  expect(() => checkSources({ fb_sources: () => 8 }, 'build/fewbit.node', 8)).not.toThrow()
})

for (const [name, open, absent] of doors) {
  describe.skipIf(absent)(name, () => {
    test('memory is aligned, keeps bytes, and is given back', async () => {
      const door = await open()
      const before = door.kernels.fb_allocated()
      const data = Uint8Array.from({ length: 1000 }, (_, i) => i * 7)
      const blocks = [data, data.subarray(1, 300), data.subarray(0, 0)].map((d) => allocateFrom(door, d))
      expect(blocks.map((b) => b % 64)).toEqual([0, 0, 0])
      const back = new Uint8Array(299)
      door.read(blocks[1], back)
      expect(back).toEqual(data.slice(1, 300))
      for (const b of [blocks[1], blocks[0], blocks[2]]) door.kernels.fb_free(b)
      expect(door.kernels.fb_allocated()).toBe(before)
      expect(() => allocate(door, 2 ** 60)).toThrow(/Cannot allocate/)
    })

    test('every chunk of a region runs exactly once, whatever the number of threads', async () => {
      const door = await open()
      for (const threads of [1, 2, 3]) {
        expect(door.setThreads(threads)).toBe(threads)
        expect(door.kernels.fb_pool_self_test(200, 17)).toBe(0)
      }
    })

    test('a unit kernel gives the same result for any number of threads', async () => {
      const door = await open()
      const x = Float32Array.from({ length: 100_003 }, (_, i) => Math.sin(i) * (i % 977))
      const expected = new Float32Array(Math.ceil(x.length / 64))
      x.forEach((v, i) => {
        expected[i >> 6] = Math.max(expected[i >> 6], Math.abs(v))
      })
      for (const threads of [1, 3]) {
        door.setThreads(threads)
        const units = expected.length
        const [absmax] = await quantizerKernels(door).run(
          'fb_absmax',
          [x],
          [{ bytes: 4 * units }],
          [units, x.length, 64],
        )
        expect(new Float32Array(absmax).findIndex((v, i) => v !== expected[i])).toBe(-1)
      }
    })

    test.each(['F16', 'BF16'] as const)('all 65,536 values of %s are widened exactly', async (dtype) => {
      const bits = Uint16Array.from({ length: 65536 }, (_, i) => i)
      const tensor = rawTensor(dtype, [65536], bits)
      const words = (values: Float32Array) => new Uint32Array(values.buffer, values.byteOffset, values.length)
      const got = words(quantizerKernels(await open()).toFloat32(tensor))
      const quiet = (word: number) => ((word & 0x7fffffff) > 0x7f800000 ? 0x7fc00000 : word)
      const wanted = words(toFloat32(tensor)).map(quiet)
      expect(got.map(quiet).findIndex((word, i) => word !== wanted[i])).toBe(-1)
    })

    test('the kernels of every level that the machine has agree with the baseline', async () => {
      const { kernels } = await open()
      for (let level = 0; level <= kernels.fb_level(1); level++) expect(kernels.fb_self_test(level)).toBe(0)
    })

    test('an unknown kernel is named', async () => {
      const door = await open()
      expect(() => door.kernels.fb_nothing()).toThrow('have no "fb_nothing"')
      await expect(quantizerKernels(door).run('fb_alloc', [], [], [1])).rejects.toThrow('not a kernel of units')
    })
  })
}
