// Gemma 3's two ropes: that of the layers with full attention may be scaled, that of the layers with a window has its own base.
import type { PlainObject } from '../../core/json.ts'
import type { RopeSizes } from '../decoder/config.ts'
import { ConfigFields } from '../decoder/fields.ts'
import { parseRope } from '../decoder/rope-config.ts'
import { layerKinds } from '../decoder/windows.ts'
import type { RopeConfig } from '../model-config.ts'

const GLOBAL_THETA = 1e6
const LOCAL_THETA = 1e4

/** `rope_parameters` by layer type, or the older `rope_theta`, `rope_scaling` and `rope_local_base_freq`. */
export function ropesByLayer(
  config: PlainObject,
  { layers, headDim, maxPositions }: RopeSizes,
  pattern: (fields: ConfigFields) => number,
): { rope: RopeConfig; ropes: RopeConfig[] } {
  const fields = new ConfigFields(config)
  const stated = fields.object('rope_parameters')
  const byType = new ConfigFields(stated ?? {}, 'rope_parameters of config.json')
  const isByType = byType.has('full_attention') || byType.has('sliding_attention')
  const full: PlainObject = isByType ? { rope_parameters: byType.object('full_attention') ?? {} } : config
  const sliding: PlainObject = isByType
    ? { rope_parameters: byType.object('sliding_attention') ?? {} }
    : { rope_theta: fields.positive('rope_local_base_freq', LOCAL_THETA) }
  const rope = parseRope(full, headDim, maxPositions, GLOBAL_THETA)
  const local = parseRope(sliding, headDim, maxPositions, LOCAL_THETA)
  const kinds = layerKinds(fields, layers, pattern(fields))
  return { rope, ropes: kinds.map((kind) => (kind === 'full_attention' ? rope : local)) }
}
