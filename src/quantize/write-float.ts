// A float model written as it is: the engine's work with a method that quantises nothing.
import type { OutputStore } from '../checkpoint/types.ts'
import { BugError } from '../core/errors.ts'
import type { Method } from '../methods/types.ts'
import type { ModelSource } from '../models/source.ts'
import { type QuantizeOptions, type QuantizeResult, quantizeModel } from './quantize.ts'

/** Writes a float source, cast to `options.dtype` where one is given. */
export async function writeFloat(
  source: ModelSource,
  output: OutputStore,
  options: QuantizeOptions,
): Promise<QuantizeResult> {
  return quantizeModel(source, FLOAT, undefined, output, options)
}

/** The method that changes nothing. */
const FLOAT: Method<undefined, never> = {
  name: 'float',
  summary: 'floats as they are',
  configClass: 'FloatConfig',
  container: 'safetensors',
  scope: 'tensor',
  capabilities: { bits: [16, 32], calibration: 'none', devices: [], onTheFly: true, serialisable: true },
  parseConfig: () => undefined,
  fromFlags: () => ({}),
  plan: (tensors) => ({ tensors: tensors.map(() => ({ action: 'keep' })), warnings: [], storedConfig: null }),
  quantize: async () => {
    throw new BugError('The float method quantises nothing')
  },
  stored: {
    suffixes: [],
    write: async () => [],
    isStored: () => false,
    read: async () => {
      throw new BugError('The float method stores nothing')
    },
  },
}
