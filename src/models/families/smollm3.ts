import type { PlainObject } from '../../core/json.ts'
import { oneRope, type RopeSizes } from '../decoder/config.ts'
import { ConfigFields } from '../decoder/fields.ts'
import { LLAMA_LIKE_KEYS } from '../decoder/gguf.ts'
import { decoderFamily } from '../decoder/index.ts'
import type { DecoderConfig } from '../decoder/types.ts'
import { whereUsed } from '../decoder/windows.ts'

const THETA = 2e6
const INTERVAL = 4

/** `no_rope_layers` has 1 for layers that rotate; where it is absent every `no_rope_layer_interval`th does not. */
function rotates(fields: ConfigFields, layer: number): boolean {
  const flags = fields.numbers('no_rope_layers')
  return flags ? flags[layer] !== 0 : (layer + 1) % fields.size('no_rope_layer_interval', INTERVAL) !== 0
}

function ropes(config: PlainObject, sizes: RopeSizes): Pick<DecoderConfig, 'rope' | 'ropes'> {
  const fields = new ConfigFields(config)
  const flags = fields.numbers('no_rope_layers')
  if (flags && flags.length !== sizes.layers) fields.fail('no_rope_layers', `a list of ${sizes.layers} numbers`)
  const { rope, ropes } = oneRope(config, sizes, THETA)
  return { rope, ropes: ropes.map((_, layer) => (rotates(fields, layer) ? rope : undefined)) }
}

function losses({ ropes }: DecoderConfig): string[] {
  const isFixed = ropes.every((rope, layer) => (rope === undefined) === ((layer + 1) % INTERVAL === 0))
  return isFixed ? [] : [`GGUF cannot say which layers rotate: in the file every ${INTERVAL}th does not`]
}

/** SmolLM3: every fourth layer knows no positions, and only those may have a window. */
export const smollm3 = decoderFamily({
  modelTypes: ['smollm3'],
  className: 'SmolLM3ForCausalLM',
  gguf: { architecture: 'smollm3', permutesRope: true, keys: LLAMA_LIKE_KEYS, losses },
  traits: {
    vocabSize: 128256,
    intermediateSize: 11008,
    maxPositions: 32768,
    hiddenSize: 2048,
    layers: 36,
    heads: 16,
    kvHeads: 4,
    tied: true,
    attentionBias: 'config',
    mlpBias: 'config',
    windows: whereUsed((fields, layer) => !rotates(fields, layer)),
    ropes,
  },
})
