// Makes a family of the shared decoder from what sets it apart.
import type { ModelFamily } from '../types.ts'
import { type DecoderTraits, parseDecoderConfig } from './config.ts'
import { type DecoderGguf, decoderProfile } from './gguf.ts'
import { buildDecoder } from './graph.ts'
import { decoderNames } from './names.ts'
import type { DecoderConfig } from './types.ts'

export interface DecoderFamily {
  readonly modelTypes: readonly string[]
  readonly className: string
  readonly gguf?: DecoderGguf
  readonly traits: DecoderTraits
}

export function decoderFamily({ modelTypes, className, gguf, traits }: DecoderFamily): ModelFamily<DecoderConfig> {
  return {
    modelTypes,
    className,
    parseConfig: (json) => parseDecoderConfig(json, traits),
    build: buildDecoder,
    names: (config) => decoderNames(config, gguf?.permutesRope ?? false),
    gguf: gguf && decoderProfile(gguf),
  }
}
