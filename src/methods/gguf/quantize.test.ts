import { expect, test } from 'vitest'
import { rawTensor } from '../../core/dtypes.ts'
import { WeightError } from '../../core/errors.ts'
import { quantize } from './quantize.ts'
import { stored } from './stored.ts'

const ramp = Float32Array.from({ length: 32 }, (_, i) => i)
const tensor = (x: Float32Array, columns = x.length) => rawTensor('F32', [x.length / columns, columns], x)

async function hexOf(type: 'Q4_0' | 'Q4_1' | 'Q8_0' | 'Q4_K', x: Float32Array): Promise<string> {
  const weight = await quantize({ name: 'w', tensor: tensor(x), settings: { type } })
  const [{ tensor: out }] = await stored.write('w', weight, { type })
  expect(out.dtype).toBe(type)
  return Buffer.from(out.data).toString('hex')
}

test('0, 1, .. 31 gives the reference blocks', async () => {
  expect(await hexOf('Q8_0', ramp)).toBe('d0330004080c1014191d2125292d3135393d42464a4e52565a5e62666b6f73777b7f')
  expect(await hexOf('Q4_0', ramp)).toBe('c0c348483737373726262626151515150404')
  expect(await hexOf('Q4_1', ramp)).toBe('2240000080809191a2a2b3b3c4c4d5d5e6e6f7f7')
})

test('the sines of 0..255 give the reference Q4_K block', async () => {
  const sines = Float32Array.from({ length: 256 }, (_, i) => Math.sin(i))
  expect((await hexOf('Q4_K', sines)).slice(0, 48)).toBe('96180624fefffdfafffffcffeaeafaeab7edbe48022095ec')
})

test('a value that is not finite is refused by tensor and row', async () => {
  const x = new Float32Array(96)
  x[70] = Number.POSITIVE_INFINITY
  const attempt = quantize({ name: 'blk.0.attn_q.weight', tensor: tensor(x, 32), settings: { type: 'Q8_0' } })
  await expect(attempt).rejects.toThrow(WeightError)
  await expect(attempt).rejects.toThrow('Cannot quantise "blk.0.attn_q.weight": row 2: the source holds Infinity')
})

test('the row of a slice is named as a row of the whole tensor', async () => {
  const x = new Float32Array(64)
  x[40] = Number.NaN
  const slice = { name: 'w', tensor: tensor(x, 32), settings: { type: 'Q8_0' as const }, firstRow: 1000 }
  await expect(quantize(slice)).rejects.toThrow('Cannot quantise "w": row 1001: the source holds NaN')
})

test.each(['Q4_0', 'Q4_1', 'Q5_0', 'Q5_1', 'Q8_0', 'Q4_K', 'Q5_K', 'Q6_K', 'F16'] as const)(
  '%s: a row too large for half scales is refused by row',
  async (type) => {
    const x = new Float32Array(512).fill(1)
    for (let i = 256; i < 512; i++) x[i] = i % 2 ? 3e38 : 1e38
    await expect(quantize({ name: 'w', tensor: tensor(x, 256), settings: { type } })).rejects.toThrow(
      'Cannot quantise "w": row 1:',
    )
  },
)

test('each expert of a stack takes its own run of weights', async () => {
  const row = Float32Array.from({ length: 64 }, (_, i) => Math.sin(i * i))
  const two = new Float32Array(128)
  two.set(row)
  two.set(row, 64)
  const importance = Float32Array.from({ length: 128 }, (_, i) => (i < 64 ? 1 + (i % 7) : 100 / (1 + (i % 5))))
  const alone = (from: number) =>
    quantize({
      name: 'w',
      tensor: rawTensor('F32', [1, 64], row),
      settings: { type: 'Q4_0', importance: importance.subarray(from, from + 64) },
    })
  const stack = await quantize({
    name: 'w',
    tensor: rawTensor('F32', [2, 1, 64], two),
    settings: { type: 'Q4_0', importance },
  })
  const [first, second] = [await alone(0), await alone(64)]
  expect([...stack.parts.codes.data]).toEqual([...first.parts.codes.data, ...second.parts.codes.data])
  expect([...first.parts.codes.data]).not.toEqual([...second.parts.codes.data])
})
