// The doors of the library. What stands behind them is loaded when one is opened, so that importing fewbit costs next to nothing.

import type { QuantizationConfig } from '../methods/configs.ts'
import type { QuantizeResult } from '../quantize/quantize.ts'
import type { Tokenizer } from '../text/types.ts'
import { filesAt, type ModelLocation, type OutputLocation } from './location.ts'
import type { CausalLM, LoadOptions } from './model.ts'
import type { QuantizePretrainedOptions } from './quantize.ts'

/** As transformers' AutoModelForCausalLM. */
export const AutoModelForCausalLM = {
  /** Opens and prepares a model. Throws FileError, ConfigError or UnsupportedError. */
  async fromPretrained(location: ModelLocation, options: LoadOptions = {}): Promise<CausalLM> {
    return (await import('./model.ts')).CausalLM.load(location, options)
  },
}

/** As transformers' AutoTokenizer. */
export const AutoTokenizer = {
  /** The tokenizer that comes with a model. Throws FileError where there is none. */
  async fromPretrained(location: ModelLocation): Promise<Tokenizer> {
    const { tokenizerOf } = await import('./tokenizer.ts')
    return tokenizerOf(await filesAt(location))
  },
}

/** Quantises the model at `from` into `to`; a run that was interrupted goes on where it stopped. Throws FewbitError. */
export async function quantizePretrained(
  from: ModelLocation,
  to: OutputLocation,
  config: QuantizationConfig,
  options?: QuantizePretrainedOptions,
): Promise<QuantizeResult> {
  return (await import('./quantize.ts')).quantizePretrained(from, to, config, options)
}
