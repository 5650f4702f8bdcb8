// Sliding windows of the layers, by the rules of the families.
import { UnsupportedError } from '../../core/errors.ts'
import type { ConfigFields } from './fields.ts'

/** Windows of `layers` layers; undefined for full attention. */
export type WindowRule = (fields: ConfigFields, layers: number) => (number | undefined)[]

export const noWindows: WindowRule = (_, layers) => new Array<undefined>(layers).fill(undefined)

/** Every layer where `sliding_window` is set; `fallback` where the key is absent, none where it is null. */
export function onEveryLayer(fallback?: number): WindowRule {
  return (fields, layers) => {
    const isOff = fields.isNull('sliding_window') || (fallback === undefined && !fields.has('sliding_window'))
    return new Array<number | undefined>(layers).fill(isOff ? undefined : fields.size('sliding_window', fallback))
  }
}

/** Only with `use_sliding_window`: as `layer_types` say, else where `byDefault` says for a layer. */
export function whereUsed(byDefault: (fields: ConfigFields, layer: number) => boolean, fallback?: number): WindowRule {
  return (fields, layers) => {
    const kinds = layerTypes(fields, layers)
    const isSet = fields.has('sliding_window') || (fallback !== undefined && !fields.isNull('sliding_window'))
    if (!fields.flag('use_sliding_window') || !isSet) return noWindows(fields, layers)
    const window = fields.size('sliding_window', fallback)
    return Array.from({ length: layers }, (_, i) =>
      (kinds ? kinds[i] === 'sliding_attention' : byDefault(fields, i)) ? window : undefined,
    )
  }
}

/** `layer_types`, else full attention on every `pattern`th layer and windows on those between. */
export function alternating(pattern: (fields: ConfigFields) => number, fallback: number): WindowRule {
  return (fields, layers) => {
    const window = fields.size('sliding_window', fallback)
    return layerKinds(fields, layers, pattern(fields)).map((kind) =>
      kind === 'sliding_attention' ? window : undefined,
    )
  }
}

/** `full_attention` or `sliding_attention` of each layer: `layer_types`, else full on every `pattern`th. */
export function layerKinds(fields: ConfigFields, layers: number, pattern: number): readonly string[] {
  const stated = layerTypes(fields, layers)
  const kind = (layer: number) => ((layer + 1) % pattern === 0 ? 'full_attention' : 'sliding_attention')
  return stated ?? Array.from({ length: layers }, (_, layer) => kind(layer))
}

function layerTypes(fields: ConfigFields, layers: number): readonly string[] | undefined {
  const kinds = fields.texts('layer_types', layers)
  for (const kind of kinds ?? []) {
    if (kind !== 'full_attention' && kind !== 'sliding_attention')
      throw new UnsupportedError(`Layers of type "${kind}" are not supported in this family`, {
        key: 'layer_types',
        actual: kind,
      })
  }
  return kinds
}
