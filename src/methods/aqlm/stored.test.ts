// Damaged, unusual and hostile layers: each is refused with what was found and what was expected, or read and repaired with a warning.
import { expect, test } from 'vitest'
import { type RawTensor, rawTensor } from '../../core/dtypes.ts'
import { FileError, WeightError } from '../../core/errors.ts'
import { fromPlain, type JsonObject, type Plain } from '../../core/json.ts'
import { additiveCodes } from '../../weights/additive.ts'
import { aqlm } from './index.ts'
import { quantizeTensor } from './quantize.ts'

const [N, K] = [6, 16]
const CONFIG = { num_codebooks: 2, nbits_per_codebook: 3, in_group_size: 8 }

/** A layer [6, 16] of 2x3 g8. */
function layer(): Map<string, RawTensor> {
  return new Map([
    [
      'p.codes',
      rawTensor(
        'I8',
        [N, 2, 2],
        Int8Array.from({ length: N * 4 }, (_, i) => (i % 8) - 4),
      ),
    ],
    [
      'p.codebooks',
      rawTensor(
        'F32',
        [2, 8, 1, 8],
        Float32Array.from({ length: 128 }, (_, i) => i / 8),
      ),
    ],
    ['p.scales', rawTensor('F32', [N, 1, 1, 1], new Float32Array(N).fill(0.5))],
  ])
}

function read(
  tensors: ReadonlyMap<string, RawTensor>,
  config: Record<string, Plain> = CONFIG,
  warnings: string[] = [],
) {
  return aqlm.stored.read('p.weight', [N, K], {
    config: aqlm.parseConfig(fromPlain(config) as JsonObject),
    has: (name) => tensors.has(name),
    dtypeOf: (name) => tensors.get(name)?.dtype,
    shapeOf: (name) => tensors.get(name)?.shape,
    read: async (name) => tensors.get(name)!,
    warn: (message) => void warnings.push(message),
  })
}

const floats = (shape: readonly number[], fill = 0) =>
  rawTensor('F32', shape, new Float32Array(shape.reduce((a, b) => a * b)).fill(fill))

test.each<[string, (t: Map<string, RawTensor>) => unknown, RegExp]>([
  ['no scales', (t) => t.delete('p.scales'), /"p.scales": it is missing/],
  ['scales of a wrong shape', (t) => t.set('p.scales', floats([N])), /shape is \[6\], expected \[6, 1, 1, 1\]/],
  ['a NaN scale', (t) => t.set('p.scales', floats([N, 1, 1, 1], Number.NaN)), /"p.scales": element 0 is NaN/],
  ['integer codebooks', (t) => t.set('p.codebooks', { ...t.get('p.codebooks')!, dtype: 'I32' }), /it is I32/],
  ['codebooks of another width', (t) => t.set('p.codebooks', floats([2, 4, 1, 8])), /expected \[2, 8, 1, 8\]/],
  ['float codes', (t) => t.set('p.codes', floats([N, 2, 2])), /"p.codes": it is F32/],
  ['too few codes', (t) => t.set('p.codes', rawTensor('I8', [N, 2, 1], new Int8Array(N * 2))), /expected \[6, 2, 2\]/],
])('%s: refused', async (_name, damage, message) => {
  const tensors = layer()
  damage(tensors)
  await expect(read(tensors)).rejects.toThrow(FileError)
  await expect(read(tensors)).rejects.toThrow(message)
})

test('groups that do not divide the model are refused', async () => {
  await expect(read(layer(), { ...CONFIG, in_group_size: 5 })).rejects.toThrow(/does not divide into groups of 1 x 5/)
})

test('codes of any integer type are the same modulo 2^B', async () => {
  const expected = additiveCodes((await read(layer())).parts.codes)
  const plain = Array.from(expected)
  const types = { U8: Uint8Array, I16: Int16Array, I32: Int32Array, U16: Uint16Array, U32: Uint32Array } as const
  for (const [dtype, type] of Object.entries(types)) {
    const codes = rawTensor(dtype as keyof typeof types, [N, 2, 2], type.from(plain))
    const weight = await read(new Map([...layer(), ['p.codes', codes]]))
    expect(Array.from(additiveCodes(weight.parts.codes)), dtype).toEqual(plain)
  }
  const wide = rawTensor(
    'I64',
    [N, 2, 2],
    BigInt64Array.from(plain, (code) => BigInt(code) - 8n),
  )
  const weight = await read(new Map([...layer(), ['p.codes', wide]]))
  expect(Array.from(additiveCodes(weight.parts.codes))).toEqual(plain)
})

test('a quantised layer that the skip list names is read, with a warning', async () => {
  const warnings: string[] = []
  await read(layer(), { ...CONFIG, linear_weights_not_to_quantize: ['p.weight'] }, warnings)
  expect(warnings).toEqual([expect.stringContaining('"p" is stored quantised although')])
})

const settings = (() => {
  const { scheme, search } = aqlm.parseConfig(aqlm.fromFlags({ type: '1x2g4', maxEpochs: 1 }))
  return { scheme, search }
})()

/** Moments of inputs that are all zero. */
const DEAD = { count: 8, h: new Float32Array(64), d: new Float64Array(64) }

test.each([Number.NaN, Infinity])('a weight of %d is refused by name, before any search', async (bad) => {
  const w = new Float32Array(64).fill(0.5)
  w[17] = bad
  const attempt = quantizeTensor({
    name: 'p.weight',
    tensor: rawTensor('F32', [8, 8], w),
    settings,
    halves: [DEAD, DEAD],
  })
  await expect(attempt).rejects.toThrow(WeightError)
  await expect(attempt).rejects.toThrow(`Cannot quantise "p.weight": element 17 is ${bad}`)
})

test('inputs that are dead on the calibration data keep the codes of the start', async () => {
  const w = Float32Array.from({ length: 64 }, (_, i) => Math.sin(i * 2.3))
  const tensor = rawTensor('F32', [8, 8], w)
  const { weight, relativeError } = await quantizeTensor({ name: 'p', tensor, settings, halves: [DEAD, DEAD] })
  expect(relativeError).toBe(0)
  expect(new Set(additiveCodes(weight.parts.codes)).size).toBeGreaterThan(1)
  expect(weight.parts.codebooks.dtype).toBe('F16')
})
