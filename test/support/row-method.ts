// A method of one's own as one record: 8-bit codes with one scale a row. What a user writes to add a method; nothing else is changed.
import { rawTensor } from '../../src/core/dtypes.ts'
import { toFloat32 } from '../../src/core/half.ts'
import { fromPlain, type JsonObject } from '../../src/core/json.ts'
import type { Method } from '../../src/methods/types.ts'
import { part, type QuantizedWeight } from '../../src/weights/weight.ts'

function rowWeight(shape: readonly number[], codes: Uint8Array, scale: Float32Array): QuantizedWeight {
  return {
    scheme: { kind: 'affine', bits: 8, group: { kind: 'flat', size: shape[1] }, zero: 128 },
    shape,
    parts: { codes: rawTensor('U8', shape, codes), scale: rawTensor('F32', [shape[0]], scale) },
  }
}

export const rows: Method<{ stored: JsonObject }, null> = {
  name: 'rows',
  summary: 'int8 with one scale a row',
  configClass: 'RowsConfig',
  container: 'safetensors',
  scope: 'tensor',
  capabilities: {
    bits: [8],
    calibration: 'none',
    devices: ['cpu', 'wasm', 'reference'],
    onTheFly: true,
    serialisable: true,
  },
  options: [],
  parseConfig: (stored) => ({ stored }),
  fromFlags: () => fromPlain({ quant_method: 'rows' }) as JsonObject,
  plan: (tensors, _model, config) => ({
    tensors: tensors.map(({ role }) =>
      role === 'linear'
        ? { action: 'quantize', settings: null }
        : { action: 'keep', reason: role === 'head' ? 'output head' : undefined },
    ),
    warnings: [],
    storedConfig: config.stored,
  }),
  async quantize({ tensor }) {
    const [n, k] = tensor.shape
    const values = toFloat32(tensor)
    const codes = new Uint8Array(n * k)
    const scale = new Float32Array(n)
    for (let r = 0; r < n; r++) {
      const row = values.subarray(r * k, (r + 1) * k)
      scale[r] = row.reduce((max, x) => Math.max(max, Math.abs(x)), 0) / 127
      row.forEach((x, i) => {
        codes[r * k + i] = 128 + Math.round(x / scale[r])
      })
    }
    return rowWeight(tensor.shape, codes, scale)
  },
  stored: {
    suffixes: ['.weight.rows_scale'],
    write: async (name, weight) => [
      { name, tensor: part(weight, 'codes') },
      { name: `${name}.rows_scale`, tensor: part(weight, 'scale') },
    ],
    isStored: (name, reader) => reader.has(`${name}.rows_scale`),
    async read(name, shape, reader) {
      const scale = toFloat32(await reader.read(`${name}.rows_scale`))
      return rowWeight(shape, (await reader.read(name)).data, scale)
    },
  },
}
