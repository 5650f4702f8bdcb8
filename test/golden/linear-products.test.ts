// Products of the references' own linear layers, hqq's HQQLinear and bitsandbytes' matmul_4bit, on every device and in both phases. The references
// compute in the layer's dtype; products here are as precise as float32, so the tolerance is that dtype's.
import { describe, expect, test } from 'vitest'
import { type RawTensor, TORCH_DTYPES } from '../../src/core/dtypes.ts'
import { toFloat32 } from '../../src/core/half.ts'
import { fromPlain, type JsonObject, type PlainObject } from '../../src/core/json.ts'
import { quantize as quantize4 } from '../../src/methods/bitsandbytes/quantize.ts'
import { hqq } from '../../src/methods/hqq/index.ts'
import { denseWeight, type QuantizedWeight } from '../../src/weights/weight.ts'
import { COMPILED, openDevice } from '../support/devices.ts'
import { fixtureJson, fixtureTensors } from '../support/fixtures.ts'
import { linearBatch, linearGraph } from '../support/linear-model.ts'

interface Product {
  readonly name: string
  readonly weight: QuantizedWeight
  readonly bias: RawTensor | undefined
  readonly x: RawTensor
  readonly y: RawTensor
  readonly tolerance: number
}

/** Of the largest output. F32: the order of sums. Others: weights, x and y rounded to 8 or 11 bits, weights twice by hqq. */
const TOLERANCE: Readonly<Record<string, number>> = { F32: 1e-6, F16: 2 ** -9, BF16: 2 ** -6 }
const gotten = (from: ReadonlyMap<string, RawTensor>, name: string) =>
  from.get(name) ?? expect.fail(`no tensor ${name}`)

async function ofHqq(): Promise<Product[]> {
  const tensors = await fixtureTensors('hqq/linear.safetensors')
  const { cases } = await fixtureJson<{
    cases: { name: string; compute_dtype: string; quant_config: PlainObject }[]
  }>('hqq/linear.json')
  return Promise.all(
    cases.map(async ({ name, compute_dtype, quant_config }) => {
      const reader = {
        config: hqq.parseConfig({ quant_config: fromPlain(quant_config) } as JsonObject),
        has: (part: string) => tensors.has(part),
        dtypeOf: (part: string) => tensors.get(part)?.dtype,
        shapeOf: (part: string) => tensors.get(part)?.shape,
        read: async (part: string) => gotten(tensors, part),
        warn: (message: string) => expect.fail(message),
      }
      const shape = gotten(tensors, `${name}.in.weight`).shape
      return {
        name: `hqq ${name}`,
        weight: await hqq.stored.read(`${name}.sd.weight`, shape, reader),
        bias: tensors.get(`${name}.sd.bias`),
        x: gotten(tensors, `${name}.x`),
        y: gotten(tensors, `${name}.y`),
        tolerance: TOLERANCE[TORCH_DTYPES[compute_dtype]],
      }
    }),
  )
}

async function ofBitsandbytes(): Promise<Product[]> {
  const tensors = await fixtureTensors('bitsandbytes/linear4.safetensors')
  const { cases } = await fixtureJson<{
    cases: {
      name: string
      quant_type: 'nf4' | 'fp4'
      blocksize: number
      compress_statistics: boolean
      compute_dtype: string
    }[]
  }>('bitsandbytes/linear4.json')
  return Promise.all(
    cases.map(async ({ name, quant_type, blocksize, compress_statistics, compute_dtype }) => ({
      name,
      weight: await quantize4({
        name,
        tensor: gotten(tensors, `${name}.weight_input`),
        settings: {
          kind: '4bit',
          quantType: quant_type,
          blockSize: blocksize,
          doubleQuant: compress_statistics,
          storage: 'U8',
        },
      }),
      bias: tensors.get(`${name}.bias`),
      x: gotten(tensors, `${name}.x`),
      y: gotten(tensors, `${name}.y`),
      tolerance: TOLERANCE[compute_dtype.toUpperCase()],
    })),
  )
}

const products = [...(await ofHqq()), ...(await ofBitsandbytes())]

test('both references are there, with and without bias', () => {
  expect(products).toHaveLength(23)
  expect(new Set(products.map(({ bias }) => bias === undefined)).size).toBe(2)
})

describe.each(COMPILED)('$name', (device) => {
  test.each(products)('$name', async ({ weight, bias, x, y, tolerance }) => {
    const [n, k] = weight.shape
    const backend = await openDevice(device)
    const load = async (index: number) => (index === 0 ? weight : denseWeight(bias!))
    const model = await backend.compile(linearGraph([n, k], bias !== undefined), load, {
      precision: 'exact',
      threads: 1,
    })
    const values = toFloat32(x)
    const expected = toFloat32(y)
    const largest = expected.reduce((max, v) => Math.max(max, Math.abs(v)), 0)
    for (const phase of ['decode', 'prefill'] as const) {
      const actual = await model.run(linearBatch(values, values.length / k, phase))
      const worst = expected.findIndex((v, i) => !(Math.abs(v - actual[i]) <= largest * tolerance))
      expect({ phase, worst, actual: actual[worst] }).toEqual({ phase, worst: -1, actual: undefined })
    }
    model.dispose()
  })
})
