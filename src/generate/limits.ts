// Where a sequence must end: what was asked for, or the end of the model's context.
import { ConfigError } from '../core/errors.ts'
import type { GenerationConfig } from './config.ts'
import type { FinishReason } from './types.ts'

/** The length, prompt included, at which a sequence ends, and why. */
export interface Limit {
  readonly length: number
  readonly finish: FinishReason
}

/** How many tokens may be added after a prompt of `promptLength` ids. Throws ConfigError where `maxLength` leaves none. */
function newTokenLimit(config: GenerationConfig, promptLength: number): number {
  if (config.maxNewTokens) return config.maxNewTokens
  if (!config.maxLength) return 20
  if (config.maxLength > promptLength) return config.maxLength - promptLength
  throw new ConfigError(
    `Cannot generate: the prompt has ${promptLength} tokens and maxLength is ${config.maxLength}, prompt included`,
    { promptLength, maxLength: config.maxLength, hint: 'set maxNewTokens instead' },
  )
}

/** Where a sequence must end. Throws ConfigError where the prompt leaves no room. */
export function limitOf(
  config: GenerationConfig,
  promptLength: number,
  batchLength: number,
  contextLength: number,
): Limit {
  if (promptLength === 0) throw new ConfigError('Cannot generate from an empty prompt: give at least one token')
  if (promptLength >= contextLength)
    throw new ConfigError(
      `Cannot generate: the prompt has ${promptLength} tokens, the model's context ends at ${contextLength}`,
      { promptLength, contextLength, hint: 'shorten the prompt' },
    )
  const asked = promptLength + newTokenLimit(config, batchLength)
  return asked <= contextLength ? { length: asked, finish: 'length' } : { length: contextLength, finish: 'context' }
}
