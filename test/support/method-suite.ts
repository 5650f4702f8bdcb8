// The walk over methods, in every variant of their records, on tiny models whose widths fit and do not fit: quantised, saved, loaded,
// restored and run on every device. Nothing here names a method: a new record is walked as it stands.
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openModel, withQuantization } from '../../src/api/open.ts'
import { openQuantizers } from '../../src/backends/index.ts'
import { saveUnchanged } from '../../src/convert/save.ts'
import { elementCount, isFloat } from '../../src/core/dtypes.ts'
import { FewbitError } from '../../src/core/errors.ts'
import { fromFloat32 } from '../../src/core/half.ts'
import { blockMethod } from '../../src/methods/calibration.ts'
import { QuantizationConfig } from '../../src/methods/configs.ts'
import { methods } from '../../src/methods/index.ts'
import type { Method, Variant } from '../../src/methods/types.ts'
import { dequantizedSource } from '../../src/models/dequantized.ts'
import { llama } from '../../src/models/families/llama.ts'
import { type ModelSource, modelDtype, readTensor } from '../../src/models/source.ts'
import { decode, type QuantizedWeight } from '../../src/weights/weight.ts'
import { COMPILED, MISSING, openDevice } from './devices.ts'
import { memoryOutput } from './memory-output.ts'
import { exactnessOf, type Observation, observeOn, observeReference } from './observe.ts'
import { SIZES, type Size, tinyModel } from './tiny-model.ts'
import { expectClose, expectSameBits, expectSameFiles } from './tolerances.ts'
import { variantFiles } from './variant-files.ts'
import { DEFINITION_MS, isFull, type Quantised, quantise, quickKernels, readerOf, variantsOf } from './walk.ts'
import { Skips, Walked, widthOf } from './walk-record.ts'

/** Variants of a method that a quick walk also takes through widths that cross groups. */
const CROSSING = 5

const skips = new Skips()

/** Declares the tests of all registered methods of a container. */
export function methodSuite(container: Method['container']): void {
  const registered = methods().filter((method) => method.container === container)
  afterAll(() => skips.print())
  if (!isFull) {
    const reason = 'only the full walk (FEWBIT_CONFORMANCE=full)'
    // In the ragged size a quick walk would mostly repeat refusals and fallbacks.
    skips.add(reason, 'methods on ragged widths')
    skips.add(
      reason,
      'the definition of methods that calibrate; crossing widths of these and of all but five variants of the others',
    )
  }
  const walkable = registered.filter((method) => method.scope === 'tensor' || method.block)
  for (const method of registered)
    if (!walkable.includes(method)) skips.add('it only reads: it has no quantiser', method.name)

  describe.each(walkable.map((method) => [method.name, method] as const))('%s', (_name, method) => {
    const walked = new Walked()
    const cases = variantsOf(method).flatMap((variant, i) =>
      sizesOf(method, i).map((size) => [variant.name, size.name, variant, size] as const),
    )
    describe.each(cases)('%s, %s widths', (_variant, _size, variant, size) => walk(method, variant, size, walked))

    test('the record claims exactly what was walked', () => {
      expect(Walked.claims(method, MISSING)).toEqual(walked.shown())
    })
  })
}

/** The definition of a method that searches over calibration data is slow: its model is smaller. */
function sizesOf({ capabilities }: Method, variant: number): readonly Size[] {
  const calibrates = capabilities.calibration === 'required'
  const whole = calibrates ? SIZES.compact : SIZES.whole
  if (isFull) return [whole, SIZES.crossing, SIZES.ragged]
  return !calibrates && variant < CROSSING ? [whole, SIZES.crossing] : [whole]
}

function walk(method: Method, variant: Variant, size: Size, walked: Walked): void {
  const float = tinyModel(llama, size, variant)
  let made: Quantised | undefined
  let source: ModelSource
  let weights: QuantizedWeight[]
  let reference: Observation

  beforeAll(async () => {
    made = await quantisedOrRefused(method, variant, size)
    if (!made) return
    source = await openModel(made.files())
    weights = []
    for (let i = 0; i < source.parameters.length; i++) weights.push(await source.load(i))
    reference = await observeReference(source)
    walked.devices.add('reference')
  }, DEFINITION_MS)

  /** A test of a model that the method could make. */
  const walks = (name: string, run: (made: Quantised) => Promise<void>) =>
    test(name, async (context) => {
      if (!made) return context.skip('the method refuses these widths')
      await run(made)
    })

  walks('linears have the width that the variant names, or a reason', async ({ result, settings }) => {
    const linears = source.parameters.flatMap(({ parameter, name }, i) =>
      parameter.kind === 'linear' ? [{ name, i }] : [],
    )
    const widths = linears.map(({ i }) => widthOf(weights[i].scheme))
    const left = linears.filter(({ name }) => !settings.has(name)).map(({ name }) => name)
    expect(left.filter((name) => !result.skipped.some((s) => s.name === name))).toEqual([])
    if (size.name !== 'whole') return
    expect(widths).toContain(Math.ceil(variant.bits))
    walked.bits.add(variant.bits)
  })

  walks('the kernels of every device, with one thread and two, give the bytes of the definition', async ({ saved }) => {
    for (const device of COMPILED) {
      for (const threads of [1, 2]) {
        await openDevice(device)
        const kernels = await openQuantizers(device.backend, { threads })
        const again = await quantise(float, method, variant, kernels)
        expectSameFiles(again.saved, saved, `${device.name}, ${threads} threads`)
      }
    }
  })

  walks('load and save gives the same bytes, as a whole and weight by weight', async ({ saved, files, settings }) => {
    const output = memoryOutput(files().single)
    await saveUnchanged(source.checkpoint, output)
    expectSameFiles(output.saved, saved, 'saved again')
    const doors = [undefined, await openQuantizers('wasm', { threads: 1 }), await openQuantizers('cpu', { threads: 2 })]
    for (const { name, parameter, quantized } of source.parameters) {
      if (!quantized) continue
      for (const kernels of doors) {
        const warnings: string[] = []
        const reader = readerOf(source, kernels, warnings)
        const weight = await method.stored.read(name, parameter.shape, reader)
        const own = (await method.stored.readSettings?.(name, reader)) ?? settings.get(name)
        const written = await method.stored.write(name, weight, own, kernels)
        for (const { name: part, tensor } of written) {
          const { data, ...stored } = await readTensor(source.checkpoint, part)
          expect({ dtype: tensor.dtype, shape: tensor.shape }, part).toEqual(stored)
          expectSameBits(tensor.data, data, part)
        }
        expect(warnings).toEqual([])
      }
    }
    walked.serialisable = true
  })

  walks('quantised while loading it is what the file holds', async () => {
    const config = new QuantizationConfig(method, variant.options)
    if (blockMethod(method, config.parse())) {
      await expect(openModel(float).then((model) => withQuantization(model, config))).rejects.toThrow(
        'calibration data',
      )
      return
    }
    const floats = await openModel(float)
    const { source: onTheFly } = await withQuantization(floats, config, variantFiles(floats))
    const byName = new Map(onTheFly.parameters.map(({ parameter }, i) => [parameter.path, i]))
    for (const [i, { parameter }] of source.parameters.entries()) {
      const weight = await onTheFly.load(byName.get(parameter.path)!)
      expect(weight.scheme, parameter.path).toEqual(weights[i].scheme)
      expectSameBits(decode(weight), decode(weights[i]), parameter.path)
    }
    walked.onTheFly = true
  })

  walks(
    'restored floats are the decoded values, rounded as the method does, by definition and by kernels',
    async () => {
      const doors = [
        undefined,
        await openQuantizers('wasm', { threads: 1 }),
        await openQuantizers('cpu', { threads: 2 }),
      ]
      const restored = await Promise.all(doors.map((kernels) => dequantizedSource(source, { kernels })))
      const dtype = source.checkpoint.format === 'gguf' ? 'F32' : modelDtype(source.configJson, source.checkpoint)
      for (const [i, { parameter, names }] of source.parameters.entries()) {
        const { scheme } = weights[i]
        if (scheme.kind === 'dense') continue
        const arithmetic = method.restoreDtype?.(weights[i], source.methodConfig) ?? 'F32'
        if (!isFloat(arithmetic) || !isFloat(dtype)) throw new Error(`${parameter.path} is restored in ${arithmetic}`)
        const values = decode(weights[i], 0, elementCount(parameter.shape), arithmetic)
        for (const { checkpoint } of restored) {
          const { data, ...found } = await readTensor(checkpoint, names.huggingFace)
          expect(found, parameter.path).toEqual({ dtype, shape: parameter.shape })
          expectSameBits(data, fromFloat32(values, dtype), parameter.path)
        }
      }
    },
  )

  describe.each(COMPILED)('$name', (device) => {
    walks('exact: equal to the reference; bits do not depend on threads and companions', async () => {
      const exactness = exactnessOf(weights)
      const { seen } = await observeOn(device, source, { precision: 'exact', threads: 1 })
      expectClose(seen, reference, exactness.kernel)
      if (exactness.isRowwise) {
        expectSameBits(seen.together, seen.alone, 'together')
        const { prompt, steps } = seen
        expectClose({ steps }, { steps: prompt.subarray(0, steps.length) }, exactness.kernel)
      }
      const two = await observeOn(device, source, { precision: 'exact', threads: 2 })
      expectSameObservation(two.seen, seen)
      walked.devices.add(device.backend)
    })

    walks('fast: within its declared error; bits do not depend on threads and companions', async () => {
      const exactness = exactnessOf(weights)
      const { seen } = await observeOn(device, source, { precision: 'fast', threads: 1 })
      expectClose(seen, reference, exactness.fast)
      if (exactness.isRowwise) expectSameBits(seen.together, seen.alone, 'together')
      const two = await observeOn(device, source, { precision: 'fast', threads: 2 })
      expectSameObservation(two.seen, seen)
    })
  })
}

/** Undefined where the method refuses the widths, by the name of a tensor; fitting widths may not be refused. */
async function quantisedOrRefused(method: Method, variant: Variant, size: Size): Promise<Quantised | undefined> {
  try {
    return await quantise(tinyModel(llama, size, variant), method, variant, await quickKernels(method))
  } catch (error) {
    if (size.name === 'whole' || !(error instanceof FewbitError) || typeof error.fields.tensor !== 'string') throw error
    skips.add(error.message, `${method.name} ${variant.name} on ${size.name} widths`)
    return undefined
  }
}

function expectSameObservation(actual: Observation, expected: Observation): void {
  for (const key of Object.keys(expected) as (keyof Observation)[]) expectSameBits(actual[key], expected[key], key)
}
