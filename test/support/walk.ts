// One step of the conformance suite: a method in one of its variants on a tiny model, quantised and saved.

import { openModel } from '../../src/api/open.ts'
import { openBackend, openQuantizers } from '../../src/backends/index.ts'
import type { FileSet } from '../../src/checkpoint/types.ts'
import type { QuantizerKernels } from '../../src/core/kernels.ts'
import { blockMethod, type CalibrationRules } from '../../src/methods/calibration.ts'
import { QuantizationConfig } from '../../src/methods/configs.ts'
import type { Method, StoredReader, Variant } from '../../src/methods/types.ts'
import { type ModelSource, readTensor } from '../../src/models/source.ts'
import type { CalibrationSetup } from '../../src/quantize/calibrated.ts'
import { planQuantize, type QuantizeResult, quantizeModel } from '../../src/quantize/quantize.ts'
import { memoryOutput } from './memory-output.ts'
import { seeded } from './random.ts'
import { variantFiles } from './variant-files.ts'

/** FEWBIT_CONFORMANCE=full walks everything; without it a part that takes minutes, not tens of them. */
export const isFull: boolean = process.env.FEWBIT_CONFORMANCE === 'full'

/** The definition, in TypeScript, of a method that searches over calibration data takes its time, on a loaded machine more. */
export const DEFINITION_MS = 240_000

/**
 * What a quick walk quantises with where the TypeScript definition takes minutes (a search over calibration data): it then compares the
 * kernels with each other only.
 */
export async function quickKernels(method: Method): Promise<QuantizerKernels | undefined> {
  return isFull || method.capabilities.calibration !== 'required' ? undefined : openQuantizers('cpu', { threads: 2 })
}

/** The variants of a record; where it lists none, `--bits` for each width that it claims. */
export function variantsOf(method: Method): readonly Variant[] {
  return method.variants ?? method.capabilities.bits.map((bits) => ({ name: `${bits} bit`, bits, options: { bits } }))
}

/** The parsed config of a variant, by the way of a user's options. */
export function configOf(method: Method, variant: Variant): unknown {
  return new QuantizationConfig(method, variant.options).parse()
}

export interface Quantised {
  readonly result: QuantizeResult
  readonly saved: Readonly<Record<string, Uint8Array>>
  files(): FileSet
  /** Settings of each quantised tensor, by stored name. */
  readonly settings: ReadonlyMap<string, unknown>
}

/** Quantises a float model into memory. */
export async function quantise(
  files: FileSet,
  method: Method,
  variant: Variant,
  kernels?: QuantizerKernels,
): Promise<Quantised> {
  const source = await openModel(files)
  const parsed = configOf(method, variant)
  const config = (await method.loadFiles?.(parsed, variantFiles(source))) ?? parsed
  const { infos, plan } = await planQuantize(source, method, config)
  const settings = infos.flatMap(({ name }, i) => {
    const step = plan.tensors[i]
    return step.action === 'quantize' ? [[name, step.settings] as const] : []
  })
  const output = memoryOutput(method.container === 'gguf' ? 'model.gguf' : undefined)
  const block = blockMethod(method, config)
  const calibration = block && (await calibrationOf(source, block.data(config)))
  const result = await quantizeModel(source, method, config, output, { kernels, calibration })
  await source.checkpoint.close()
  return { result, saved: output.saved, files: output.files, settings: new Map(settings) }
}

/** Seeded ids. Recorded on one backend whatever the device, so that only the kernels of the quantiser differ between devices. */
async function calibrationOf({ config }: ModelSource, rules: CalibrationRules): Promise<CalibrationSetup> {
  const length = Math.min(rules.length, config.maxPositions, 32)
  const random = seeded(7)
  const block = () => Int32Array.from({ length }, () => Math.floor(random() * config.vocabSize))
  const blocks = Array.from({ length: 6 }, block)
  return { ids: { blocks, length }, backend: await openBackend('wasm'), threads: 1 }
}

/** What a stored layout reads from. Warnings are collected in `warnings`. */
export function readerOf(
  source: ModelSource,
  kernels?: QuantizerKernels,
  warnings: string[] = [],
): StoredReader<unknown> {
  const { tensors } = source.checkpoint
  return {
    config: source.methodConfig,
    has: (name) => tensors.has(name),
    dtypeOf: (name) => tensors.get(name)?.dtype,
    shapeOf: (name) => tensors.get(name)?.shape,
    read: (name) => readTensor(source.checkpoint, name),
    warn: (message) => warnings.push(message),
    kernels,
  }
}
