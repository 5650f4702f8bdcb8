// matmul_4bit of bitsandbytes 0.50.2 (pure torch path): stored bytes, and x W^T + b with the restored weights. The reference computes in
// the compute dtype; here the values are exact, so the tolerance is that dtype's.
import { expect, test } from 'vitest'
import { fixtureJson, fixtureTensors } from '../../../test/support/fixtures.ts'
import { toFloat32 } from '../../core/half.ts'
import { decode } from '../../weights/weight.ts'
import { quantize } from './quantize.ts'
import { stored } from './stored.ts'

interface Case {
  name: string
  quant_type: 'nf4' | 'fp4'
  compress_statistics: boolean
  blocksize: number
  compute_dtype: 'f32' | 'bf16' | 'f16'
  shape: [number, number, number]
}
const tensors = await fixtureTensors('bitsandbytes/linear4.safetensors')
const { cases } = await fixtureJson<{ cases: Case[] }>('bitsandbytes/linear4.json')
/** Relative to the largest output: summation order in f32; weights, x and result rounded to 8 or 11 bits otherwise. */
const TOLERANCE = { f32: 1e-6, bf16: 2 ** -7, f16: 2 ** -10 }

test.each(cases)('$name', async (c) => {
  const get = (part: string) => tensors.get(`${c.name}.${part}`) ?? expect.fail(`no tensor ${part}`)
  const settings = {
    kind: '4bit',
    quantType: c.quant_type,
    blockSize: c.blocksize,
    doubleQuant: c.compress_statistics,
    storage: 'U8',
  } as const
  const weight = await quantize({ name: 'w', tensor: get('weight_input'), settings })
  const [packed, absmax] = await stored.write('w', weight, settings)
  expect(Buffer.from(packed.tensor.data).equals(get('weight').data)).toBe(true)
  expect(Buffer.from(absmax.tensor.data).equals(get('absmax').data)).toBe(true)

  const [rows, k, n] = c.shape
  const [x, w, expected] = [toFloat32(get('x')), decode(weight), toFloat32(get('y'))]
  const biasTensor = tensors.get(`${c.name}.bias`)
  const bias = biasTensor ? toFloat32(biasTensor) : new Float32Array(n)
  const y = Float64Array.from({ length: rows * n }, (_, at) => {
    const [r, j] = [Math.floor(at / n), at % n]
    let sum = bias[j]
    for (let i = 0; i < k; i++) sum += x[r * k + i] * w[j * k + i]
    return sum
  })
  const largest = expected.reduce((max, v) => Math.max(max, Math.abs(v)), 0)
  const worst = expected.findIndex((v, i) => !(Math.abs(v - y[i]) <= largest * TOLERANCE[c.compute_dtype]))
  expect({ worst, actual: y[worst] }).toEqual({ worst: -1, actual: undefined })
})
