// The C++ quantisers against the TypeScript oracle, on both doors and every instruction set of this machine: equal bytes for every value.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { LEVELS } from '../../src/backends/cpu/door.ts'
import { findAddon, openWasmKernels } from '../../src/backends/cpu/native.ts'
import { quantizerKernels } from '../../src/backends/cpu/quantizers.ts'
import { type DType, type RawTensor, rawTensor } from '../../src/core/dtypes.ts'
import { fromFloat32, toFloat32 } from '../../src/core/half.ts'
import type { QuantizerKernels } from '../../src/core/kernels.ts'
import { type Gguf, type GgufSettings, parseConfig } from '../../src/methods/gguf/config.ts'
import { isFloatType, TENSOR_TYPES } from '../../src/methods/gguf/file-types.ts'
import { encode, quantize } from '../../src/methods/gguf/quantize.ts'
import { stored } from '../../src/methods/gguf/stored.ts'
import type { NamedTensor, StoredReader } from '../../src/methods/types.ts'
import { AFFINE_BLOCKS, type AffineBlockType, affineBlockBytes } from '../../src/weights/affine-blocks.ts'
import { decodeWith } from '../../src/weights/decode-kernel.ts'
import { SUPERBLOCKS, type SuperblockType, superblockBytes } from '../../src/weights/superblock/index.ts'
import { decode, type QuantizedWeight } from '../../src/weights/weight.ts'
import { fixtureTensors } from '../support/fixtures.ts'

const FLOAT_TYPES = TENSOR_TYPES.filter(isFloatType)
const BLOCK_TYPES = TENSOR_TYPES.filter((type) => !isFloatType(type))

/** Bytes of a tensor of `type`, or what it was refused for. */
async function bytesOrRefusal(tensor: RawTensor, settings: GgufSettings, kernels?: QuantizerKernels): Promise<string> {
  return hexOrRefusal(async () => {
    const weight = await quantize({ name: 'w', tensor, settings, kernels })
    return stored.write('w', weight, settings, kernels)
  })
}

async function hexOrRefusal(make: () => Promise<readonly NamedTensor[]>): Promise<string> {
  try {
    const [{ tensor }] = await make()
    return Buffer.from(tensor.data).toString('hex')
  } catch (error) {
    return String(error)
  }
}

/** A file that holds one tensor "w". */
function readerOf(type: string, data: Uint8Array, kernels?: QuantizerKernels): StoredReader<Gguf> {
  const tensor = { dtype: type as DType, shape: [3, 128], data }
  return {
    config: parseConfig({}),
    has: () => true,
    dtypeOf: () => type,
    shapeOf: () => tensor.shape,
    read: async () => tensor,
    warn: () => {},
    kernels,
  }
}

const fround = Math.fround
/** Normal values of a small generator, from an integer seed. */
function normals(seed: number, count: number): Float32Array {
  let state = seed >>> 0 || 1
  const next = () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return ((state >>> 0) + 1) / 4294967297
  }
  return Float32Array.from({ length: count }, () => Math.sqrt(-2 * Math.log(next())) * Math.cos(2 * Math.PI * next()))
}

/** What can be done to a row of normal values to make it hostile. */
const SHAPES: readonly ((x: number, i: number, seed: number) => number)[] = [
  (x) => x,
  (x) => x * 0.02,
  (x, i, seed) => (i % 97 === seed % 97 ? x * 1e4 : x),
  (x, i, seed) => (i % 32 < seed % 33 ? 0 : x),
  (_, i) => (i % 2 ? -0 : 0),
  (x) => Math.round(x * 4) / 2,
  (x, _, seed) => Math.sign(x) * (1 + (seed % 3)),
  (x) => Math.abs(x) + 0.1,
  (x) => -Math.abs(x) - 0.1,
  (x) => 10 + x * 1e-3,
  (x) => Math.sign(x) * Math.exp(x * 6),
  (x) => x * 1e-6,
  (x, _, seed) => Math.sign(x) * 2 ** ((seed % 80) - 40) * (1 - (1 + (seed % 47)) * 2 ** -24), // just below a power of two
  (x) => x * 1e-13,
  (x) => x * 1e-38,
  (x) => x * 1e-40,
  (x) => x * 1e5,
  (x) => x * 3e7,
  (x) => x * 1e30,
  (x, i) => (i === 77 ? Number.NaN : x),
]

/** Rows [4, columns], each of a shape of its own. */
const matrix = fc
  .record({
    seed: fc.integer({ min: 1, max: 2 ** 31 }),
    columns: fc.constantFrom(256, 512, 768),
    shapes: fc.array(fc.nat(SHAPES.length - 1), { minLength: 4, maxLength: 4 }),
    dtype: fc.constantFrom('F32' as const, 'F16' as const, 'BF16' as const),
    weighted: fc.boolean(),
  })
  .map(({ seed, columns, shapes, dtype, weighted }) => {
    const x = normals(seed, 4 * columns).map((v, i) => fround(SHAPES[shapes[Math.floor(i / columns)]](v, i, seed)))
    const importance = weighted ? normals(seed + 1, columns).map((v, i) => (i % 41 === 3 ? 0 : v * v * 10)) : undefined
    const tensor = rawTensor(dtype, [4, columns], fromFloat32(x, dtype))
    return { tensor, importance, label: `${dtype} ${columns} ${shapes} ${seed} ${weighted}` }
  })

const addon = findAddon()
if ('missing' in addon) console.log(`native door skipped: ${addon.missing.join('; ')}`)
const levels = 'missing' in addon ? [] : LEVELS.slice(0, addon.kernels.fb_level() + 1)

function suite(kernels: () => Promise<QuantizerKernels>): void {
  test.each(BLOCK_TYPES)('%s: random rows', { timeout: 60_000 }, async (type) => {
    const compiled = await kernels()
    await fc.assert(
      fc.asyncProperty(matrix, async ({ tensor, importance }) => {
        const settings = { type, importance }
        const expected = await bytesOrRefusal(tensor, settings)
        expect(await bytesOrRefusal(tensor, settings, compiled)).toBe(expected)
        const input = { name: 'w', tensor, settings, kernels: compiled }
        expect(await hexOrRefusal(() => encode(input))).toBe(expected)
      }),
      { numRuns: 40 },
    )
  })

  test.each(FLOAT_TYPES)('%s: every conversion and refusal of random rows', async (type) => {
    const compiled = await kernels()
    await fc.assert(
      fc.asyncProperty(matrix, async ({ tensor }) => {
        expect(await bytesOrRefusal(tensor, { type }, compiled)).toBe(await bytesOrRefusal(tensor, { type }))
      }),
      { numRuns: 20 },
    )
  })

  test.each(Object.keys(AFFINE_BLOCKS) as AffineBlockType[])('%s: any bytes are unpacked alike', async (type) => {
    const compiled = await kernels()
    const bytes = fc.uint8Array({ minLength: 12 * affineBlockBytes(type), maxLength: 12 * affineBlockBytes(type) })
    await fc.assert(
      fc.asyncProperty(bytes, async (blocks) => {
        const read = (given?: QuantizerKernels) => stored.read('w', [3, 128], readerOf(type, blocks, given))
        expect(await read(compiled)).toEqual(await read())
      }),
      { numRuns: 20 },
    )
  })

  test.each(Object.keys(SUPERBLOCKS) as SuperblockType[])('%s: any bytes are decoded alike', async (type) => {
    const compiled = await kernels()
    const length = 8 * superblockBytes(type)
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ minLength: length, maxLength: length }), async (blocks) => {
        const shape = [1, 8 * SUPERBLOCKS[type].elements]
        const weight: QuantizedWeight = {
          scheme: { kind: 'superblock', type },
          shape,
          parts: { blocks: rawTensor('U8', [1, length], blocks) },
        }
        expect(toFloat32(await decodeWith(compiled, weight, 'F32'))).toEqual(decode(weight))
      }),
      { numRuns: 20 },
    )
  })

  test.each(BLOCK_TYPES)('%s: the rows of the golden data, one at a time', async (type) => {
    const compiled = await kernels()
    const tensors = await fixtureTensors('gguf/blocks/inputs.safetensors')
    const x = toFloat32(tensors.get('x')!)
    const weights = toFloat32(tensors.get('weights')!)
    for (let row = 0; row < x.length / 512; row++) {
      const tensor = rawTensor('F32', [1, 512], x.slice(row * 512, (row + 1) * 512))
      for (const importance of [undefined, weights]) {
        const settings = { type, importance }
        expect(`${row} ${await bytesOrRefusal(tensor, settings, compiled)}`).toBe(
          `${row} ${await bytesOrRefusal(tensor, settings)}`,
        )
      }
    }
  })
}

for (const [level, name] of levels.entries()) {
  describe(`native, ${name}`, () => {
    suite(async () => {
      if ('missing' in addon) throw new Error('unreachable')
      addon.kernels.fb_set_level(level)
      return quantizerKernels(addon)
    })
  })
}

describe('wasm', () => {
  suite(async () => quantizerKernels(await openWasmKernels()))
})
