// The C++ kernels of AWQ's search against their TypeScript definition: at each instruction set, in WASM, for any number of threads. What
// rounds to the dtype of the search is equal bit for bit; sums of products over tokens lie within float32's error.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { places } from '../../src/backends/cpu/door.ts'
import { openKernels } from '../../src/backends/cpu/native.ts'
import { quantizerKernels } from '../../src/backends/cpu/quantizers.ts'
import { roundTo } from '../../src/core/half.ts'
import type { QuantizerKernels } from '../../src/core/kernels.ts'
import {
  addGram,
  clipSearch,
  finalCodes,
  quadratic,
  requantize,
  requantizeError,
  rounded,
  roundedNorm,
  scaled,
  squaredDistances,
  weightSums,
} from '../../src/methods/awq/kernels.ts'
import type { CodeSpec, SearchDtype } from '../../src/methods/awq/oracle.ts'
import { columnSums } from '../../src/methods/column-sums.ts'
import { DOORS } from '../support/doors.ts'
import { bellShaped, seeded } from '../support/random.ts'

interface Case {
  readonly spec: CodeSpec
  /** w [N, K] in the dtype of the search. */
  readonly w: Float32Array
  /** Inputs [T, K] in that dtype. */
  readonly x: Float32Array
  /** Factors of the columns [K], positive. */
  readonly scale: Float32Array
}

/** What can be done to the bell-shaped weights of a group to make them unusual. */
const SHAPES: readonly ((x: number, i: number) => number)[] = [
  (x) => x,
  (x) => x * 0.02,
  (x, i) => (i % 13 === 5 ? x * 300 : x),
  (_, i) => (i % 2 ? -0 : 0),
  (x, i) => (i % 3 ? 0 : x),
  () => 0.75,
  (x) => Math.abs(x) + 0.1,
  (x) => -Math.abs(x) - 0.1,
  (x) => 10 + x * 1e-3,
  (x) => Math.round(x * 4) / 8,
  (x) => x * 1e-7,
  (x) => x * 1e3,
]

function caseOf(spec: CodeSpec, tokens: number, seed: number): Case {
  const { rows, columns, group, dtype } = spec
  const random = seeded(seed)
  const shapes = Array.from({ length: (rows * columns) / group }, () => SHAPES[Math.floor(random() * SHAPES.length)])
  const R = (v: number) => roundTo(dtype, Math.fround(v))
  const w = bellShaped(rows * columns, 1, seed).map((v, i) => R(shapes[Math.floor(i / group)](v, i)))
  const loud = Float32Array.from({ length: columns }, () => (random() < 0.1 ? 20 : random() < 0.1 ? 0 : 1))
  const x = bellShaped(tokens * columns, 1, seed + 1).map((v, i) => R(v * loud[i % columns]))
  return { spec, w, x, scale: Float32Array.from({ length: columns }, () => R(2 ** (6 * random() - 3))) }
}

interface Size {
  readonly rows: number
  /** Groups a row. */
  readonly groups: number
  readonly group: number
  readonly tokens: number
}

/** Groups end inside vectors, rows inside tiles, tokens inside blocks of 32. */
const small = fc.record({
  rows: fc.integer({ min: 1, max: 15 }),
  groups: fc.integer({ min: 1, max: 4 }),
  group: fc.constantFrom(1, 7, 8, 16, 24, 32, 33, 64, 128),
  tokens: fc.integer({ min: 1, max: 70 }),
})
/** Several units of every kernel; more tokens than one float32 sum takes; rows and columns beyond a tile. */
const large: Size = { rows: 140, groups: 3, group: 64, tokens: 600 }

const specOf = ({ rows, groups, group }: Size, dtype: SearchDtype, bits: number, symmetric: boolean): CodeSpec => ({
  rows,
  columns: groups * group,
  group,
  bits,
  symmetric,
  dtype,
})

const cases = fc
  .record({
    size: small,
    bits: fc.constantFrom(4, 4, 4, 2, 3, 8),
    symmetric: fc.boolean(),
    dtype: fc.constantFrom<SearchDtype>('F32', 'F16', 'BF16'),
    seed: fc.nat(2 ** 30),
  })
  .map(({ size, bits, symmetric, dtype, seed }) => caseOf(specOf(size, dtype, bits, symmetric), size.tokens, seed))

type Numbers = ArrayLike<number>

interface Kernel {
  readonly name: string
  /** What the kernel gives, or its definition where there are none. */
  run(c: Case, kernels?: QuantizerKernels): Promise<Readonly<Record<string, Numbers>>>
  /** Largest difference of each value; absent: equal bit for bit. */
  bounds?(c: Case): Promise<Numbers>
}

const EPS = 1e-5
/** Rows whose products native/kernels/quantize/awq.inc sums in float32. */
const SLAB = 512
/** Each addition and product of float32 is off by half of its last bit at most. */
const HALF_STEP = 2 ** -24
const absolute = (values: Float32Array) => values.map(Math.abs)

/** Second moments of the inputs, with the exact sums. */
const momentsOf = async ({ x, spec: { columns } }: Case) =>
  Float32Array.from(await addGram(x, columns, new Float64Array(columns * columns), undefined))

const KERNELS: readonly Kernel[] = [
  {
    name: 'weights restored from their codes',
    run: async ({ w, spec }, kernels) => ({ restored: await requantize(w, undefined, spec, kernels) }),
  },
  {
    name: 'scaled weights restored from their codes',
    run: async ({ w, scale, spec }, kernels) => ({ restored: await requantize(w, scale, spec, kernels) }),
  },
  {
    name: 'what is lost of scaled weights',
    run: async ({ w, scale, spec }, kernels) => ({ lost: await requantizeError(w, scale, spec, kernels) }),
  },
  {
    name: 'factors of columns and rows',
    run: async ({ w, scale, spec }, kernels) => {
      const rows = w.filter((_, i) => i % spec.columns === 0).map((v) => Math.abs(v) + 1)
      return {
        multiplied: await scaled(w, scale, 'multiply columns', spec.dtype, kernels),
        divided: await scaled(w, scale, 'divide columns', spec.dtype, kernels),
        rows: await scaled(w, rows, 'divide rows', spec.dtype, kernels),
      }
    },
  },
  {
    name: 'sums of weights as parts of the largest of their group',
    run: async ({ w, spec }, kernels) => ({ sums: await weightSums(w, spec, kernels) }),
  },
  {
    name: 'magnitudes of the clip search',
    run: async ({ w, x, spec }, kernels) => ({ best: await clipSearch(w, x, spec, kernels) }),
  },
  {
    name: 'codes',
    run: async ({ w, spec }, kernels) => ({ ...(await codesOf(w, undefined, spec, kernels)) }),
  },
  {
    name: 'codes of clipped weights',
    run: ({ w, spec }, kernels) => codesOf(w, boundsOf(w, spec), spec, kernels),
  },
  {
    name: 'norms',
    run: async ({ x, scale, spec }, kernels) => ({ y: await roundedNorm(x, scale, EPS, spec.dtype, kernels) }),
  },
  {
    name: 'rounding',
    run: async ({ x, spec }, kernels) => ({
      y: await rounded(
        x.map((v) => v * 1.1),
        spec.dtype,
        kernels,
      ),
    }),
  },
  {
    name: 'sums of columns',
    run: async ({ x, spec: { columns } }, kernels) => ({
      absolute: await columnSums(x, columns, 'absolute', kernels),
      square: await columnSums(x, columns, 'square', kernels),
    }),
  },
  {
    name: 'squared distance of outputs',
    run: async ({ x, spec }, kernels) => ({
      sums: await squaredDistances(x, x.map(neighbour), 2 * spec.columns, kernels),
    }),
    bounds: async ({ x, spec }) => {
      const sums = await squaredDistances(x, x.map(neighbour), 2 * spec.columns, undefined)
      return sums.map((sum) => 6 * HALF_STEP * sum)
    },
  },
  {
    name: 'second moments of inputs',
    async run({ x, spec: { columns } }, kernels) {
      const sums = new Float64Array(columns * columns).fill(0.5)
      return { sums: await addGram(x, columns, sums, kernels) }
    },
    async bounds({ x, spec: { columns } }) {
      const sums = await addGram(absolute(x), columns, new Float64Array(columns * columns), undefined)
      return sums.map((sum) => (SLAB + 1) * HALF_STEP * sum)
    },
  },
  {
    name: 'errors of outputs by second moments',
    run: async (c, kernels) => ({ sum: [await quadratic(c.w, await momentsOf(c), c.spec.columns, kernels)] }),
    async bounds(c) {
      const { columns } = c.spec
      const sum = await quadratic(absolute(c.w), absolute(await momentsOf(c)), columns, undefined)
      return [(columns + 2) * HALF_STEP * sum]
    },
  },
]

const neighbour = (_: number, i: number, all: Float32Array) => all[(i * 7 + 3) % all.length]

/** Magnitudes that groups are clipped to: some clip nothing, some nearly all. */
function boundsOf(w: Float32Array, { group }: CodeSpec): Float32Array {
  return Float32Array.from({ length: w.length / group }, (_, g) => Math.abs(w[g * group]) * (1 + (g % 2)))
}

async function codesOf(
  w: Float32Array,
  clip: Float32Array | undefined,
  spec: CodeSpec,
  kernels?: QuantizerKernels,
): Promise<Readonly<Record<string, Numbers>>> {
  const { codes, scale, zero, bad = -1 } = await finalCodes(w, clip, spec, kernels)
  return { codes, scale, zero, bad: [bad] }
}

/** The first difference beyond the bounds, as a sentence. -0 and 0 are one weight. */
function difference(
  actual: Readonly<Record<string, Numbers>>,
  expected: Readonly<Record<string, Numbers>>,
  bounds?: Numbers,
): string | undefined {
  for (const [key, values] of Object.entries(expected)) {
    if (actual[key].length !== values.length) return `${actual[key].length} ${key}, expected ${values.length}`
    for (let i = 0; i < values.length; i++) {
      const [a, e] = [actual[key][i], values[i]]
      const isEqual = bounds ? Math.abs(a - e) <= bounds[i] : a === e || (Number.isNaN(a) && Number.isNaN(e))
      if (!isEqual) return `${key}[${i}] is ${a}, expected ${e}`
    }
  }
  return undefined
}

async function compare({ run, bounds }: Kernel, c: Case, kernels: QuantizerKernels): Promise<string | undefined> {
  return difference(await run(c, kernels), await run(c), await bounds?.(c))
}

describe.each(DOORS)('%s', (_door, kernels) => {
  test.each(KERNELS.map((kernel) => [kernel.name, kernel] as const))('%s', async (_name, kernel) => {
    await fc.assert(
      fc.asyncProperty(cases, async (c) => {
        expect(await compare(kernel, c, kernels)).toBeUndefined()
      }),
      { numRuns: 20 },
    )
    const tokens = kernel.name.includes('clip') ? 70 : large.tokens
    const c = caseOf(specOf(large, 'F16', 4, false), tokens, 3)
    expect(await compare(kernel, c, kernels)).toBeUndefined()
  })

  test.each([Number.NaN, Infinity, -Infinity, 1e6])('a group with %d has no codes, wherever it stands', async (bad) => {
    const { w, spec } = caseOf(specOf({ rows: 5, groups: 3, group: 40, tokens: 1 }, 'F32', 4, false), 1, 5)
    for (const at of [0, 39, 299, 300, 599]) {
      const broken = w.slice()
      broken[at] = bad
      const expected = await codesOf(broken, undefined, spec)
      expect(expected.bad).toEqual([Math.floor(at / 40)])
      expect((await codesOf(broken, undefined, spec, kernels)).bad, `at ${at}`).toEqual(expected.bad)
    }
  })
})

test('every kernel of the search is compared; results do not depend on the number of threads', async () => {
  const { door } = await openKernels()
  const ran = new Set<string>()
  const kernels = quantizerKernels(door)
  const watched: QuantizerKernels = {
    ...kernels,
    run(name, ...job) {
      ran.add(name)
      return kernels.run(name, ...job)
    },
  }
  const c = caseOf(specOf(large, 'BF16', 4, false), 70, 9)
  for (const { name, run } of KERNELS) {
    door.setThreads(1)
    const expected = await run(c, watched)
    for (const threads of [2, 3]) {
      door.setThreads(threads)
      expect(difference(await run(c, watched), expected), `${name}, ${threads} threads`).toBeUndefined()
    }
  }
  const exported = [...places(door).keys()].filter((name) => name.startsWith('fb_awq_'))
  expect([...ran]).toEqual(expect.arrayContaining(exported))
})
