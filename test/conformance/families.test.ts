// Every registered family: its fixture models on the compiled backends with the tolerances of the reference, and a tiny model of it, made
// from its own record, as floats and with each method. Nothing here names a family.
import { afterAll, describe, expect, test } from 'vitest'
import { openModel } from '../../src/api/open.ts'
import { openQuantizers } from '../../src/backends/index.ts'
import { saveUnchanged } from '../../src/convert/save.ts'
import { FewbitError, UnsupportedError } from '../../src/core/errors.ts'
import { methods } from '../../src/methods/index.ts'
import type { Method, Variant } from '../../src/methods/types.ts'
import { MODEL_FAMILIES, registerModel } from '../../src/models/index.ts'
import type { ModelSource } from '../../src/models/source.ts'
import type { ModelFamily } from '../../src/models/types.ts'
import type { QuantizedWeight } from '../../src/weights/weight.ts'
import { COMPILED } from '../support/devices.ts'
import { familySuite } from '../support/family-suite.ts'
import { memoryOutput } from '../support/memory-output.ts'
import { exactnessOf, type Observation, observeOn, observeReference } from '../support/observe.ts'
import { starcoder2 } from '../support/own-family.ts'
import { SIZES, type Size, tinyModel } from '../support/tiny-model.ts'
import { expectClose, expectSameBits, expectSameFiles, LAYERS } from '../support/tolerances.ts'
import { DEFINITION_MS, isFull, type Quantised, quantise, variantsOf } from '../support/walk.ts'
import { Skips, widthOf } from '../support/walk-record.ts'

registerModel(starcoder2) // the example of docs/add-a-family.md is walked like the built-in ones

describe.each(['cpu', 'wasm'])('%s', (device) => {
  familySuite(device)
})

const skips = new Skips()
afterAll(() => skips.print())
skips.add(
  'kernels are held to it by the walk over methods',
  `the definition of quantisers on families${isFull ? ', but for the first variant of a method' : ''}`,
)
if (!isFull)
  skips.add('only the full walk (FEWBIT_CONFORMANCE=full)', 'families with all but the first variant of a method')

const cases = methods()
  .filter((method) => method.scope === 'tensor' || method.block)
  .flatMap((method) =>
    variantsOf(method)
      .slice(0, isFull ? undefined : 1)
      .map((variant, i) => [`${method.name} ${variant.name}`, method, variant, isFull && i === 0] as const),
  )
const kernels = await openQuantizers('cpu', { threads: 2 })

describe.each(MODEL_FAMILIES.map((family) => [family.modelTypes[0], family] as const))('%s', (name, family) => {
  /** Methods and widths that linears of this family were seen to have. */
  const shown = new Set<string>()

  test.each([[true], [false]])('floats, head tied: %s', async (tied) => {
    await walkDevices(await openModel(tinyModel(family, SIZES.deep, { tied })))
  })

  test.each(cases)('%s', { timeout: DEFINITION_MS }, async (what, method, variant, byDefinition) => {
    const width = `${method.name}, ${variant.bits} bits`
    if (method.container === 'gguf' && !family.gguf) {
      await expect(quantised(family, SIZES.deep, method, variant)).rejects.toThrow(UnsupportedError)
      return skips.add('no such architecture in GGUF', `${name} with ${what}`)
    }
    for (const size of [SIZES.deep, SIZES.wide]) {
      const made = await quantised(family, size, method, variant).catch((error) => {
        // Widths that the method refuses by the name of a tensor; the wide ones have to do.
        if (size === SIZES.wide || !(error instanceof FewbitError) || !error.fields.tensor) throw error
      })
      if (!made) continue
      const source = await openModel(made.files())
      const weights = await weightsOf(source)
      if (!hasLinearOf(variant.bits, source, weights)) {
        if (size === SIZES.wide) throw new Error(`No linear of ${name} has the width of ${what}`)
        if (!shown.has(width)) continue
        return skips.add('narrow rows do not hold its blocks, and this width was seen', `${name} with ${what}`)
      }
      shown.add(width)
      await walkCase(family, size, variant, made, source, weights)
      if (!byDefinition) return
      const defined = await quantise(tinyModel(family, size, variant), method, variant)
      expectSameFiles(defined.saved, made.saved, 'by the definition')
      return
    }
  })

  test('every width of every method was seen', () => {
    const widths = cases.map(([, method, { bits }]) => ({ method, width: `${method.name}, ${bits} bits` }))
    const claimed = widths.filter(({ method }) => method.container !== 'gguf' || family.gguf)
    expect([...shown].sort()).toEqual([...new Set(claimed.map(({ width }) => width))].sort())
  })
})

async function walkCase(
  family: ModelFamily,
  size: Size,
  variant: Variant,
  made: Quantised,
  source: ModelSource,
  weights: readonly QuantizedWeight[],
): Promise<void> {
  const output = memoryOutput(made.files().single)
  await saveUnchanged(source.checkpoint, output)
  expectSameFiles(output.saved, made.saved, 'saved again')
  expect(source.warnings).toEqual([])
  const seen = await walkDevices(source, weights)
  if (made.result.quantized > 0) return
  // Nothing was quantised: a float file, which gives what its folder gives unless the family says what is lost.
  const float = await openModel(tinyModel(family, size, variant))
  const losses = (source.checkpoint.format === 'gguf' && family.gguf?.losses?.(float.config)) || []
  for (const loss of losses) skips.add(loss, `${family.modelTypes[0]} in ${variant.name} against its folder`)
  expect(made.result.warnings).toEqual(expect.arrayContaining([...losses]))
  if (losses.length === 0) expectClose(seen, await observeReference(float), LAYERS)
}

async function weightsOf(source: ModelSource): Promise<QuantizedWeight[]> {
  const weights: QuantizedWeight[] = []
  for (let i = 0; i < source.parameters.length; i++) weights.push(await source.load(i))
  return weights
}

function hasLinearOf(bits: number, { parameters }: ModelSource, weights: readonly QuantizedWeight[]): boolean {
  return parameters.some(
    ({ parameter }, i) => parameter.kind === 'linear' && widthOf(weights[i].scheme) === Math.ceil(bits),
  )
}

function quantised(family: ModelFamily, size: Size, method: Method, variant: Variant): Promise<Quantised> {
  return quantise(tinyModel(family, size, variant), method, variant, kernels)
}

/** Each device gives what the reference gives, which is returned; rows of a batch are those of a sequence alone. */
async function walkDevices(source: ModelSource, loaded?: readonly QuantizedWeight[]): Promise<Observation> {
  const exactness = exactnessOf(loaded ?? (await weightsOf(source)))
  const tolerance = Math.max(exactness.kernel, LAYERS)
  const expected = await observeReference(source)
  const { prompt, steps } = expected
  if (exactness.isRowwise) expectClose({ steps }, { steps: prompt.subarray(0, steps.length) }, tolerance)
  for (const device of COMPILED) {
    const { seen } = await observeOn(device, source, { precision: 'exact', threads: 2 })
    expectClose(seen, expected, tolerance)
    if (exactness.isRowwise) expectSameBits(seen.together, seen.alone, `${device.name}: together`)
  }
  return expected
}
