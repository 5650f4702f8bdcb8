// The steps of AQLM's quantiser against the research program (Vahe1994/AQLM e79a896), and its results against that program's own runs.
import { describe, expect, test } from 'vitest'
import type { RawTensor } from '../../src/core/dtypes.ts'
import { aligned, toFloat32 } from '../../src/core/half.ts'
import { codebookGradient } from '../../src/methods/aqlm/codebooks.ts'
import { addMoment } from '../../src/methods/aqlm/moment.ts'
import { quantizeLinear } from '../../src/methods/aqlm/oracle.ts'
import { energy, type Problem, residual, type State, timesH } from '../../src/methods/aqlm/problem.ts'
import { candidateErrors, searchCodes } from '../../src/methods/aqlm/search.ts'
import { assign, initialScales, kMeans, normalisedGroups } from '../../src/methods/aqlm/start.ts'
import { fixtureJson, fixtureTensors } from '../support/fixtures.ts'

interface Case {
  readonly name: string
  readonly out_features: number
  readonly in_features: number
  readonly num_codebooks: number
  readonly nbits_per_codebook: number
  readonly in_group_size: number
  readonly out_group_size: number
  readonly reference_energy: number
  readonly start_loss_f64: number
  readonly step: { readonly input_group_index: number; readonly codebook_index: number }
  readonly runs_relative_error: { readonly mean: number; readonly max: number }
}

const FILES = ['quantiser_trace', 'quantiser_real']
const cases: (readonly [string, Case, ReadonlyMap<string, RawTensor>])[] = []
for (const file of FILES) {
  const tensors = await fixtureTensors(`aqlm/${file}.safetensors`)
  const { cases: own } = await fixtureJson<{ cases: Case[] }>(`aqlm/${file}.json`)
  for (const c of own) cases.push([c.name, c, tensors])
}

const doubles = (tensor: RawTensor) => aligned(Float64Array, tensor.data)
const integers = (tensor: RawTensor) =>
  tensor.dtype === 'I64'
    ? Array.from(aligned(BigInt64Array, tensor.data), Number)
    : Array.from(aligned(Int32Array, tensor.data))

/** Largest |a - b| over the largest |b|. */
function relative(a: ArrayLike<number>, b: ArrayLike<number>): number {
  expect(a.length).toBe(b.length)
  let [difference, largest] = [0, 0]
  for (let i = 0; i < b.length; i++) {
    difference = Math.max(difference, Math.abs(a[i] - b[i]))
    largest = Math.max(largest, Math.abs(b[i]))
  }
  return difference / largest
}

describe.each(cases)('%s', (name, c, tensors) => {
  const tensor = (key: string) => tensors.get(`${name}.${key}`)!
  const problem: Problem = {
    scheme: {
      kind: 'additive',
      bits: c.nbits_per_codebook,
      codebooks: c.num_codebooks,
      group: { out: c.out_group_size, in: c.in_group_size },
    },
    rows: c.out_features,
    columns: c.in_features,
    w: toFloat32(tensor('W')),
    h: Float32Array.from(doubles(tensor('XTX'))),
  }
  const start = (): State => ({
    codes: Uint16Array.from(integers(tensor('start.codes'))),
    codebooks: toFloat32(tensor('start.codebooks')).slice(),
    scale: toFloat32(tensor('start.scales')).slice(),
  })
  const size = c.in_group_size * c.out_group_size
  const entries = 2 ** c.nbits_per_codebook

  test('the start: scales, k-means from the same points, codes', () => {
    const expected = start()
    const scale = initialScales(problem)
    expect(relative(scale, expected.scale)).toBeLessThan(1e-6)
    const data = normalisedGroups(problem, scale)
    if (tensors.has(`${name}.kmeans.data`)) expect(relative(data, toFloat32(tensor('kmeans.data')))).toBeLessThan(1e-6)
    const ids = integers(tensor('kmeans.init_ids'))
    for (let book = 0; book < c.num_codebooks; book++) {
      // All points train, from the reference's first centroids: those points come first, the others follow.
      const first = ids.slice(book * entries, (book + 1) * entries)
      const others = Array.from({ length: data.length / size }, (_, i) => i).filter((i) => !first.includes(i))
      const points = Int32Array.from([...first, ...others])
      const centroids = kMeans(data, size, entries, points, 100)
      const own = expected.codebooks.subarray(book * entries * size, (book + 1) * entries * size)
      expect(relative(centroids, own), `codebook ${book}`).toBeLessThan(1e-5)
      const codes = assign(data, size, centroids)
      expect(Array.from(codes)).toEqual(
        Array.from({ length: codes.length }, (_, n) => expected.codes[n * c.num_codebooks + book]),
      )
      codes.forEach((code, n) => {
        for (let d = 0; d < size; d++) data[n * size + d] -= centroids[code * size + d]
      })
    }
  })

  test('the error and its gradient by the codebooks', () => {
    const state = start()
    const x = residual(problem, state)
    const xh = timesH(problem, x)
    expect(energy(problem, x, xh) / c.out_features / c.start_loss_f64).toBeCloseTo(1, 5)
    expect(energy(problem, problem.w, timesH(problem, problem.w)) / c.reference_energy).toBeCloseTo(1, 5)
    const gradient = codebookGradient(problem, state, xh).map((g) => (-2 * g) / c.out_features)
    expect(relative(gradient, toFloat32(tensor('adam.grad0.codebooks')))).toBeLessThan(1e-5)
  })

  test('errors of all candidates of a visit', () => {
    const { input_group_index: j, codebook_index: book } = c.step
    const state = start()
    const x = residual(problem, state)
    const xh = timesH(problem, x)
    const expected = toFloat32(tensor('step.candidate_losses')) // [S, OG]
    const outs = c.out_features / c.out_group_size
    const run = c.out_group_size * c.in_features
    for (let r = 0; r < outs; r++) {
      let own = 0
      for (let i = r * run; i < (r + 1) * run; i++) own += x[i] * xh[i]
      const actual = candidateErrors(problem, state, r, j, book).map((change) => own + change)
      const column = Float32Array.from({ length: entries }, (_, s) => expected[s * outs + r])
      expect(relative(actual, column)).toBeLessThan(2e-6)
      expect(actual.indexOf(Math.min(...actual))).toBe(column.indexOf(Math.min(...column)))
    }
  })

  test.each([1, 2, 4])('a beam of %d finds the codes, in natural and in shuffled order', (beam) => {
    const visits = integers(tensor('beam.shuffled.visits'))
    const shuffled = Array.from({ length: visits.length / 2 }, (_, v): [number, number] => [
      visits[2 * v],
      visits[2 * v + 1],
    ])
    for (const [order, given] of [
      ['natural', undefined],
      ['shuffled', shuffled],
    ] as const) {
      const state = start()
      searchCodes(problem, state, beam, given)
      expect(Array.from(state.codes), order).toEqual(integers(tensor(`beam${beam}.${order}.codes`)))
    }
  })

  test('five seeds do better than the reference, on average and at worst', () => {
    const search = {
      maxEpochs: 20,
      tolerance: 0.01,
      beamSize: 1,
      initIterations: 10,
      initPointsPerCentroid: 32,
    }
    const errors = [0, 1, 2, 3, 4].map((seed) => {
      const result = quantizeLinear(problem, { ...search, seed }, 'F16')
      return result.error / result.energy
    })
    expect(errors.reduce((a, b) => a + b) / 5).toBeLessThanOrEqual(c.runs_relative_error.mean)
    expect(Math.max(...errors)).toBeLessThanOrEqual(c.runs_relative_error.max)
  })
})

test('the second moment of recorded inputs', () => {
  const [, c, tensors] = cases[0]
  const x = toFloat32(tensors.get('k2b4g8.X')!)
  const columns = c.in_features
  const moment = new Float64Array(columns * columns)
  addMoment(moment, x, columns)
  const expected = doubles(tensors.get('k2b4g8.XTX')!)
  const rows = x.length / columns
  const actual = moment.map((sum, i) => (i % columns >= Math.floor(i / columns) ? sum / rows : expected[i]))
  // Products of 256 rows at a time are added in float32.
  expect(relative(actual, expected)).toBeLessThan(1e-6)
})

describe('search in the space of weights: H is the identity', async () => {
  interface Search {
    readonly name: string
    readonly beam_size: number
    readonly squared_error_before: number
    readonly squared_error_after: number
  }
  const tensors = await fixtureTensors('aqlm/beam_l2.safetensors')
  const { cases: all } = await fixtureJson<{ cases: Search[] }>('aqlm/beam_l2.json')
  // The others change only some groups, or force a change: parts of the reference's tuning after quantisation.
  /** The order of the codebooks is drawn by the reference: one of these. With four it loses track of its hypotheses and ends worse. */
  const ORDERS: Readonly<Record<number, readonly (readonly number[])[]>> = {
    1: [[0]],
    2: [
      [0, 1],
      [1, 0],
    ],
    4: [[0, 1, 2, 3]],
  }
  const searches = all.filter(({ name }) => ['greedy1', 'beam1x2', 'beam4x2', 'beam5x4'].includes(name))

  test.each(searches)('$name', (c) => {
    const tensor = (part: string) => tensors.get(`${c.name}.${part}`) ?? expect.fail(`no tensor ${part}`)
    const [rows, columns] = tensor('W').shape
    const [codebooks, entries, out, size] = tensor('codebooks').shape
    const ins = columns / size
    // Groups do not know of each other: each is a row of its own.
    const h = Float32Array.from({ length: size * size }, (_, i) => Number(i % (size + 1) === 0))
    const scheme = { kind: 'additive', bits: Math.log2(entries), codebooks, group: { out, in: size } } as const
    const problem: Problem = { scheme, rows: rows * ins, columns: size, w: toFloat32(tensor('W')), h }
    const scale = toFloat32(tensor('scales'))
    const begin = (): State => ({
      codes: Uint16Array.from(integers(tensor('prev_codes'))),
      codebooks: toFloat32(tensor('codebooks')),
      scale: Float32Array.from({ length: rows * ins }, (_, r) => scale[Math.floor(r / ins)]),
    })
    const errorOf = (state: State) => residual(problem, state).reduce((sum, value) => sum + value * value, 0)
    expect(errorOf(begin())).toBeCloseTo(c.squared_error_before, 3)
    const found = ORDERS[codebooks].map((order) => {
      const state = begin()
      const visits = order.map((book): [number, number] => [0, book])
      searchCodes(problem, state, c.beam_size, visits)
      return { error: errorOf(state), codes: [...state.codes] }
    })
    const best = Math.min(...found.map(({ error }) => error))
    if (codebooks === 4) expect(best).toBeLessThan(c.squared_error_after)
    else expect(found.map(({ codes }) => codes)).toContainEqual(integers(tensor('new_codes')))
  })
})
