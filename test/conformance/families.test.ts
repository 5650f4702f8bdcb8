// Every registered family: its fixture models on the compiled backends with the tolerances of the reference, and a tiny model of it, made
// from its own record, as floats and with each method. Nothing here names a family.
import { afterAll, describe, expect, test } from 'vitest'
import { openModel } from '../../src/api/open.ts'
import { saveUnchanged } from '../../src/convert/save.ts'
import { UnsupportedError } from '../../src/core/errors.ts'
import { methods } from '../../src/methods/index.ts'
import type { Method, Variant } from '../../src/methods/types.ts'
import { MODEL_FAMILIES, registerModel } from '../../src/models/index.ts'
import type { ModelSource } from '../../src/models/source.ts'
import type { ModelFamily } from '../../src/models/types.ts'
import type { QuantizedWeight } from '../../src/weights/weight.ts'
import { COMPILED } from '../support/devices.ts'
import { familySuite } from '../support/family-suite.ts'
import { memoryOutput } from '../support/memory-output.ts'
import { exactnessOf, observeOn, observeReference } from '../support/observe.ts'
import { starcoder2 } from '../support/own-family.ts'
import { SIZES, tinyModel } from '../support/tiny-model.ts'
import { expectClose, expectSameBits, expectSameFiles, KERNEL } from '../support/tolerances.ts'
import { isFull, type Quantised, quantise, quickKernels, variantsOf } from '../support/walk.ts'
import { Skips } from '../support/walk-record.ts'

registerModel(starcoder2) // the example of docs/add-a-family.md is walked like the built-in ones

describe.each(['cpu', 'wasm'])('%s', (device) => {
  familySuite(device)
})

const skips = new Skips()
afterAll(() => skips.print())
if (!isFull)
  skips.add('only the full walk (FEWBIT_CONFORMANCE=full)', 'families with all but the first variant of a method')

const variants = methods()
  .filter((method) => method.scope === 'tensor' || method.block)
  .flatMap((method) =>
    variantsOf(method)
      .slice(0, isFull ? undefined : 1)
      .map((variant) => ({ method, variant })),
  )
const cases = variants.map(({ method, variant }) => [`${method.name} ${variant.name}`, method, variant] as const)

describe.each(MODEL_FAMILIES.map((family) => [family.modelTypes[0], family] as const))('%s', (name, family) => {
  test.each([[true], [false]])('floats, head tied: %s', async (tied) => {
    await walkDevices(await openModel(tinyModel(family, SIZES.deep, { tied })))
  })

  test.each(cases)('%s', async (what, method, variant) => {
    const made = await quantisedOrUnsupported(family, method, variant)
    if (!made) return skips.add('no such architecture in GGUF', `${name} with ${what}`)
    const source = await openModel(made.files())
    const output = memoryOutput(made.files().single)
    await saveUnchanged(source.checkpoint, output)
    expectSameFiles(output.saved, made.saved, 'saved again')
    expect(source.warnings).toEqual([])
    await walkDevices(source)
    if (made.result.quantized > 0) return
    const float = await openModel(tinyModel(family, SIZES.deep, variant))
    const losses = (method.container === 'gguf' && family.gguf?.losses?.(float.config)) || []
    for (const loss of losses) skips.add(loss, `${name} with ${what} against its folder`)
    expect(made.result.warnings).toEqual(expect.arrayContaining([...losses]))
    if (losses.length === 0) expectClose(await observeReference(source), await observeReference(float), KERNEL)
  })
})

async function quantisedOrUnsupported(
  family: ModelFamily,
  method: Method,
  variant: Variant,
): Promise<Quantised | undefined> {
  try {
    return await quantise(tinyModel(family, SIZES.deep, variant), method, variant, await quickKernels(method))
  } catch (error) {
    if (error instanceof UnsupportedError && method.container === 'gguf' && !family.gguf) return undefined
    throw error
  }
}

/** Each device gives what the reference gives; rows of a batch are those of a sequence alone. */
async function walkDevices(source: ModelSource): Promise<void> {
  const weights: QuantizedWeight[] = []
  for (let i = 0; i < source.parameters.length; i++) weights.push(await source.load(i))
  const exactness = exactnessOf(weights)
  const expected = await observeReference(source)
  const { prompt, steps } = expected
  if (exactness.isRowwise) expectClose({ steps }, { steps: prompt.subarray(0, steps.length) }, exactness.kernel)
  for (const device of COMPILED) {
    const { seen } = await observeOn(device, source, { precision: 'exact', threads: 2 })
    expectClose(seen, expected, exactness.kernel)
    if (exactness.isRowwise) expectSameBits(seen.together, seen.alone, `${device.name}: together`)
  }
}
