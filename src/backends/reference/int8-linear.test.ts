// Against Linear8bitLt in eval mode (bitsandbytes 0.50.2, CPU): codes, absmax and outlier columns exactly, outputs within the
// rounding to the activations' dtype.
import { expect, test } from 'vitest'
import { fixtureJson, fixtureTensors } from '../../../test/support/fixtures.ts'
import type { RawTensor } from '../../core/dtypes.ts'
import { rawTensor } from '../../core/dtypes.ts'
import { toFloat32 } from '../../core/half.ts'
import type { QuantizedWeight } from '../../weights/weight.ts'
import { BITSANDBYTES_CPU_OUTPUT_SCALE, INT8_OUTPUT_SCALE, int8Linear, quantizeActivations } from './int8-linear.ts'

interface Case {
  name: string
  what: string
  weights: string
  threshold: number
  dtype: 'f32' | 'f16' | 'bf16'
  shape: [number, number, number]
  outlier_columns: number[] | null
}
const tensors = await fixtureTensors('bitsandbytes/int8.safetensors')
const cases = (await fixtureJson<{ cases: Case[] }>('bitsandbytes/int8.json')).cases.filter((c) => c.what === 'linear')
const get = (name: string): RawTensor => tensors.get(name) ?? expect.fail(`no tensor ${name}`)

/**
 * Relative to the largest output: float32 sums of several outlier columns in another order; two roundings to the activations' dtype
 * (ours has none).
 */
const TOLERANCE = { f32: 3e-7, f16: 2 ** -10, bf16: 2 ** -7 }

function weightOf(c: Case): QuantizedWeight {
  const codes = get(`${c.weights}.weight`)
  return {
    scheme: {
      kind: 'affine',
      bits: 8,
      group: { kind: 'flat', size: codes.shape[1] },
      zero: 128,
      activations: { kind: 'int8', outlierThreshold: c.threshold },
    },
    shape: codes.shape,
    parts: {
      codes: rawTensor(
        'U8',
        codes.shape,
        codes.data.map((byte) => byte ^ 0x80),
      ),
      scb: get(`${c.weights}.SCB`),
    },
  }
}

test.each(cases)('$name: codes, absmax and outlier columns', (c) => {
  const [rows, k] = c.shape
  const { codes, absmax, outlierColumns } = quantizeActivations(toFloat32(get(`${c.name}.x`)), rows, k, c.threshold)
  expect([...absmax]).toEqual([...toFloat32(get(`${c.name}.x_absmax`))])
  expect(outlierColumns).toEqual(c.outlier_columns ?? [])
  expect([...codes]).toEqual([...new Int8Array(get(`${c.name}.x_codes`).data.slice().buffer)])
})

test.each(cases)('$name: outputs', (c) => {
  const x = toFloat32(get(`${c.name}.x`))
  const biasTensor = tensors.get(`${c.weights}.bias`)
  const y = int8Linear(x, c.shape[0], weightOf(c), biasTensor && toFloat32(biasTensor), BITSANDBYTES_CPU_OUTPUT_SCALE)
  const expected = toFloat32(get(`${c.name}.y`))
  const largest = expected.reduce((max, v) => Math.max(max, Math.abs(v)), 0)
  const tolerance = largest * TOLERANCE[c.dtype]
  const worst = expected.findIndex((v, i) => !(Math.abs(v - y[i]) <= tolerance))
  expect({ worst, actual: y[worst] }).toEqual({ worst: -1, actual: undefined })
})

test('the exact output scale differs from the misprint of the reference by 1.8e-5', () => {
  expect(BITSANDBYTES_CPU_OUTPUT_SCALE / INT8_OUTPUT_SCALE - 1).toBeCloseTo(1.8e-5, 6)
  expect(new Uint32Array(Float32Array.of(INT8_OUTPUT_SCALE, BITSANDBYTES_CPU_OUTPUT_SCALE).buffer)).toEqual(
    Uint32Array.of(0x38820610, 0x388206aa),
  )
})
