// The weight that codes approximate: it gives the wanted outputs where the data can be followed, and is the weight itself where nothing is wrong.
import { expect, test } from 'vitest'
import { ErrorMoment, SecondMoment } from './moment.ts'
import { changed, type TargetProblem, targetWeight, together } from './target.ts'

const [ROWS, COLUMNS, SAMPLES] = [3, 6, 400]
const noise = (length: number, step: number) =>
  Float32Array.from({ length }, (_, i) => ((Math.sin(i * step + 1) * 43758.5453) % 1) * 2)

function times(w: Float32Array, x: Float32Array): Float32Array {
  const out = new Float32Array((x.length / COLUMNS) * ROWS)
  out.forEach((_, at) => {
    const [n, r] = [Math.floor(at / ROWS), at % ROWS]
    for (let k = 0; k < COLUMNS; k++) out[at] += w[r * COLUMNS + k] * x[n * COLUMNS + k]
  })
  return out
}

/** Moments of the first and the second half of the samples. */
async function halvesOf(wanted: Float32Array, given: Float32Array, w: Float32Array): Promise<TargetProblem['halves']> {
  const half = async (first: boolean) => {
    const part = (v: Float32Array) => (first ? v.subarray(0, v.length / 2) : v.subarray(v.length / 2))
    const second = new SecondMoment(COLUMNS, undefined)
    const errors = new ErrorMoment(ROWS, COLUMNS, undefined)
    await second.add(part(given))
    await errors.add(part(wanted), part(times(w, given)), part(given))
    return { count: second.rows, d: errors.mean(), h: second.mean() }
  }
  return [await half(true), await half(false)]
}

/** The target for inputs `given` where the outputs that `wanted` would give are asked for. */
async function targetFor(w: Float32Array, wanted: Float32Array, given: Float32Array): Promise<Float32Array> {
  return targetWeight(
    { rows: ROWS, columns: COLUMNS, w, halves: await halvesOf(times(w, wanted), given, w) },
    undefined,
  )
}

const error = (a: Float32Array, b: Float32Array) => Math.hypot(...a.map((v, i) => v - b[i])) / Math.hypot(...b)

test('inputs that have lost a part of their size are made up for', async () => {
  const w = noise(ROWS * COLUMNS, 12.9898)
  const x = noise(SAMPLES * COLUMNS, 78.233)
  const weak = x.map((v, i) => v * (0.5 + 0.1 * (i % COLUMNS)))
  const target = await targetFor(w, x, weak)
  const expected = w.map((v, i) => v / (0.5 + 0.1 * (i % COLUMNS)))
  expect(error(w, expected)).toBeGreaterThan(0.2)
  // What is left is the ridge's.
  expect(error(target, expected)).toBeLessThan(0.02)
  expect(error(times(target, weak), times(w, x))).toBeLessThan(0.02)
})

test('right inputs leave the weight as it is, dead ones too', async () => {
  const w = noise(ROWS * COLUMNS, 12.9898)
  const x = noise(SAMPLES * COLUMNS, 78.233)
  expect(error(await targetFor(w, x, x), w)).toBeLessThan(1e-7)
  const none = new Float32Array(SAMPLES * COLUMNS)
  expect(await targetFor(w, x, none)).toEqual(w)
  const dead = x.map((v, i) => (i % COLUMNS === 2 ? 0 : v))
  const target = await targetFor(w, dead, dead)
  expect(target[2]).toBe(w[2])
})

test('errors that the halves of the data do not have in common change little', async () => {
  const w = noise(ROWS * COLUMNS, 12.9898)
  const x = noise(SAMPLES * COLUMNS, 78.233).subarray(0, 16 * COLUMNS)
  const wrong = times(w, x).map((v, i) => v + 3 * noise(16 * ROWS, 3.17)[i])
  const halves = await halvesOf(wrong, x, w)
  const target = await targetWeight({ rows: ROWS, columns: COLUMNS, w, halves }, undefined)
  const byHeart = await changed(
    { rows: ROWS, columns: COLUMNS, w },
    { data: together(halves), lambda: 0.01, alpha: 1 },
    undefined,
  )
  expect(error(target, w)).toBeLessThan(0.25 * error(byHeart.target, w))
})

test('half of the data alone is no ground for a change', async () => {
  const w = noise(ROWS * COLUMNS, 12.9898)
  const x = noise(SAMPLES * COLUMNS, 78.233)
  const [half] = await halvesOf(
    times(w, x),
    x.map((v) => v / 2),
    w,
  )
  const none = { count: 0, d: new Float64Array(half.d.length), h: new Float32Array(half.h.length) }
  expect(await targetWeight({ rows: ROWS, columns: COLUMNS, w, halves: [half, none] }, undefined)).toEqual(w)
})
