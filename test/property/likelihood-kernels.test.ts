// The compiled sums over rows of logits are held to their TypeScript definition, on both doors and every instruction set.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Door } from '../../src/backends/cpu/door.ts'
import { findAddon, openWasmKernels } from '../../src/backends/cpu/native.ts'
import { quantizerKernels } from '../../src/backends/cpu/quantizers.ts'
import {
  compareRows,
  compareRowsWith,
  negativeLogLikelihoods,
  negativeLogLikelihoodsWith,
} from '../../src/evaluate/likelihood.ts'

const addon = findAddon()
if ('missing' in addon) console.log(`native door skipped: ${addon.missing.join('; ')}`)
const doors: [string, Door][] = [
  ...('missing' in addon ? [] : [['native', addon] as [string, Door]]),
  ['wasm', await openWasmKernels()],
]

/** Logits of some rows, a second model's near them, and targets. Widths that no vector divides; ties and far outliers occur. */
const rows = fc
  .record({ rows: fc.integer({ min: 1, max: 5 }), width: fc.integer({ min: 1, max: 75 }) })
  .chain(({ rows, width }) => {
    const logit = fc.oneof(
      fc.float({ min: -30, max: 30, noNaN: true }),
      fc.integer({ min: -2, max: 2 }),
      fc.constantFrom(-1e4, 800),
    )
    const logits = fc.array(logit, { minLength: rows * width, maxLength: rows * width })
    const targets = fc.array(fc.nat(width - 1), { minLength: rows, maxLength: rows })
    return fc.record({ baseline: logits, model: logits, targets })
  })

const near = (got: number, wanted: number) =>
  expect(Math.abs(got - wanted)).toBeLessThanOrEqual(1e-12 * Math.max(1, Math.abs(wanted)))

describe.each(doors)('%s', (_, door) => {
  const kernels = quantizerKernels(door)

  const levels = async (body: () => Promise<void>) => {
    const used = door.kernels.fb_level(0)
    try {
      for (let level = 0; level <= door.kernels.fb_level(1); level++) {
        door.kernels.fb_set_level(level)
        await body()
      }
    } finally {
      door.kernels.fb_set_level(used)
    }
  }

  test('negative log-likelihoods are those of the definition', async () => {
    await fc.assert(
      fc.asyncProperty(rows, async ({ baseline, targets }) => {
        const logits = Float32Array.from(baseline)
        const wanted = negativeLogLikelihoods(logits, targets)
        await levels(async () => {
          const got = await negativeLogLikelihoodsWith(kernels, logits, targets)
          got.forEach((value, r) => {
            near(value, wanted[r])
          })
        })
      }),
    )
  })

  test('comparisons are those of the definition', async () => {
    await fc.assert(
      fc.asyncProperty(rows, async ({ baseline, model, targets }) => {
        const [p, q] = [Float32Array.from(baseline), Float32Array.from(model)]
        const wanted = compareRows(p, q, targets)
        await levels(async () => {
          const got = await compareRowsWith(kernels, p, q, targets)
          expect(got.map((row) => row.sameTop)).toEqual(wanted.map((row) => row.sameTop))
          for (const [r, row] of got.entries()) {
            near(row.nll, wanted[r].nll)
            near(row.baselineNll, wanted[r].baselineNll)
            // The definition's terms are as large as the largest difference of two logits.
            expect(Math.abs(row.divergence - wanted[r].divergence)).toBeLessThanOrEqual(
              1e-11 * (1 + Math.max(...p.map((x, i) => Math.abs(x - q[i])))),
            )
          }
        })
      }),
    )
  })

  test('a model compared with itself has no divergence, and many rows go in slices', async () => {
    const width = 1 << 16
    const logits = Float32Array.from({ length: 66 * width }, (_, i) => Math.sin(i) * 9)
    const targets = Array.from({ length: 66 }, (_, r) => (r * 977) % width)
    const got = await compareRowsWith(kernels, logits, logits, targets)
    expect(got.map((row) => row.divergence)).toEqual(new Array(66).fill(0))
    near(got[65].nll, negativeLogLikelihoods(logits.subarray(65 * width), targets.slice(65))[0])
  })
})
