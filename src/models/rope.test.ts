import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { FIXTURES, fixtureTensors, largestDifference } from '../../test/support/tensors.ts'
import { LengthMemory, ropeRows } from '../backends/rope-table.ts'
import type { PlainObject } from '../core/json.ts'
import { parseRope } from './decoder/rope-config.ts'
import { ropeSpec } from './rope.ts'

interface Case {
  readonly rope: PlainObject & { max_position_embeddings: number; rotary_dim: number }
  readonly seq_len: number
  readonly attention_scaling: number
}
const CASES: Record<string, Case> = JSON.parse(readFileSync(join(FIXTURES, 'transformers/rope.json'), 'utf8')).cases
const tensors = await fixtureTensors('transformers/rope.safetensors')

/** The reference's own pow is no closer than this (transformers.md, section 4). */
const INVERSE_RELATIVE = 3e-6

test.each(Object.keys(CASES))("rope %s: frequencies, factor and tables are the reference's", (name) => {
  const { rope, seq_len, attention_scaling } = CASES[name]
  const headDim = rope.rotary_dim / ((rope.partial_rotary_factor as number | undefined) ?? 1)
  const config = { rope_parameters: rope }
  const spec = ropeSpec(parseRope(config, headDim, rope.max_position_embeddings))
  const { inverse, scale } = spec.frequencies(seq_len)
  const expected = tensors.get(`${name}.inv_freq`)!.floats()
  expect(inverse.length).toBe(expected.length)
  const worst = Math.max(...inverse.map((x, i) => Math.abs(x / expected[i] - 1)))
  expect(worst).toBeLessThanOrEqual(INVERSE_RELATIVE)
  expect(scale).toBeCloseTo(attention_scaling, 12)

  const positions = Int32Array.from(tensors.get(`${name}.positions`)!.ints())
  const { cos, sin } = ropeRows(spec, { positions, slots: new Int32Array(positions.length) }, new LengthMemory())
  const half = spec.rotaryDim / 2
  // The fixture repeats each half; an angle of p radians inherits p times the frequencies' error.
  const firstHalf = (table: Float32Array) => table.filter((_, i) => i % (2 * half) < half)
  const tolerance = Math.max(...positions) * INVERSE_RELATIVE + 1e-6
  expect(largestDifference(cos, firstHalf(tensors.get(`${name}.cos`)!.floats())).difference).toBeLessThan(tolerance)
  expect(largestDifference(sin, firstHalf(tensors.get(`${name}.sin`)!.floats())).difference).toBeLessThan(tolerance)
})

const dynamic = ropeSpec({ type: 'dynamic', theta: 10000, rotaryDim: 16, maxPositions: 16, factor: 2 })
/** The first angle's cosine row of the last of `length` tokens of slot 0. */
const rotation = (length: number, memory: LengthMemory) =>
  ropeRows(dynamic, { positions: Int32Array.of(length - 1), slots: Int32Array.of(0) }, memory).cos

test('a dynamic rope keeps the frequencies of the longest length until a shorter one than the context resets them', () => {
  const memory = new LengthMemory()
  const cosines = (position: number, length: number) =>
    dynamic.frequencies(length).inverse.map((f) => Math.cos(Math.fround(position * f)))
  expect(rotation(20, memory)).toEqual(cosines(19, 20))
  expect(rotation(18, memory)).toEqual(cosines(17, 20))
  expect(rotation(16, memory)).toEqual(cosines(15, 20))
  expect(rotation(15, memory)).toEqual(cosines(14, 15))
  expect(rotation(18, memory)).toEqual(cosines(17, 18))
})

test('each sequence of a batch is rotated by its own length', () => {
  const memory = new LengthMemory()
  const both = ropeRows(dynamic, { positions: Int32Array.of(19, 3), slots: Int32Array.of(0, 1) }, memory).cos
  expect(both.subarray(8)).toEqual(rotation(4, new LengthMemory()))
  expect(both.subarray(0, 8)).toEqual(rotation(20, new LengthMemory()))
})

test('a longrope switches at the original context and back', () => {
  const spec = ropeSpec({
    type: 'longrope',
    theta: 10000,
    rotaryDim: 4,
    maxPositions: 64,
    originalMaxPositions: 16,
    shortFactor: [1, 1],
    longFactor: [2, 4],
    attentionFactor: 1.5,
  })
  const first = (length: number) => spec.frequencies(length).inverse[0]
  expect([16, 17, 16].map(first)).toEqual([1, 0.5, 1])
  const positions = Int32Array.of(1, 16)
  const { cos } = ropeRows(spec, { positions, slots: Int32Array.of(0, 1) }, new LengthMemory())
  expect(cos[0]).toBe(Math.fround(Math.cos(1) * 1.5))
  expect(cos[2]).toBe(Math.fround(Math.cos(16 * 0.5) * 1.5))
})
