// Against torch: 2,710 casts a type (ties, subnormals, beyond the largest value), and the values of all codes.
import { expect, test } from 'vitest'
import { fixtureTensors } from '../../test/support/fixtures.ts'
import { toFloat32 } from '../core/half.ts'
import { FLOAT8, type Float8Name, float8Code, float8Values, isSpecial } from './float8.ts'

const tensors = await fixtureTensors('quanto/float8.safetensors')
const names = Object.keys(FLOAT8) as Float8Name[]
const bits = (values: Float32Array) =>
  Array.from(values, (v) => (Number.isNaN(v) ? 'NaN' : Object.is(v, -0) ? '-0' : v))

test.each(names)('%s: the value of every code', (name) => {
  expect(bits(float8Values(name))).toEqual(bits(toFloat32(tensors.get(`table_qfloat8_${name}`)!)))
})

test.each(names)('%s: the code of every number', (name) => {
  const x = toFloat32(tensors.get('x')!)
  const expected = tensors.get(`qfloat8_${name}`)!.data
  const codes = Uint8Array.from(x, (value) => float8Code(name, value))
  const differing = [...x.keys()].filter((i) => codes[i] !== expected[i] && !isSpecial(name, expected[i]))
  expect(differing.map((i) => [x[i], codes[i], expected[i]])).toEqual([])
})

test.each(names)('%s: every code is the nearest to its own value', (name) => {
  const values = float8Values(name)
  for (let code = 0; code < 256; code++) if (!isSpecial(name, code)) expect(float8Code(name, values[code])).toBe(code)
})
