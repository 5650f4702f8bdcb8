// Makes a family of the shared decoder from what sets it apart.
import type { ModelFamily } from '../types.ts'
import { type DecoderTraits, parseDecoderConfig } from './config.ts'
import { buildDecoder } from './graph.ts'
import { decoderNames } from './names.ts'

export interface DecoderFamily {
  readonly modelTypes: readonly string[]
  readonly className: string
  readonly ggufArchitecture: string
  /** GGUF files of this family hold the rows of q and k interleaved. */
  readonly ggufPermutesRope?: boolean
  readonly traits: DecoderTraits
}

export function decoderFamily(family: DecoderFamily): ModelFamily {
  return {
    modelTypes: family.modelTypes,
    className: family.className,
    ggufArchitecture: family.ggufArchitecture,
    parseConfig: (json) => parseDecoderConfig(json, family.traits),
    build: buildDecoder,
    names: (config) => decoderNames(config, family.ggufPermutesRope ?? false),
  }
}
