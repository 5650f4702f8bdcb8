// The method of docs/add-a-method.md, word for word: a method of one's own is one record, and nothing else changes.
import { type Method, type QuantizedWeight, rawTensor, toFloat32 } from '../../src/index.ts'

/** Codes are unsigned: 128 stands for 0. */
function rowWeight(shape: readonly number[], codes: Uint8Array, scale: Float32Array): QuantizedWeight {
  return {
    scheme: { kind: 'affine', bits: 8, group: { kind: 'flat', size: shape[1] }, zero: 128 },
    shape,
    parts: { codes: rawTensor('U8', shape, codes), scale: rawTensor('F32', [shape[0]], scale) },
  }
}

export const rows: Method<Record<string, never>, null> = {
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
  options: {},
  parseConfig: () => ({}),
  fromFlags: () => ({ quant_method: 'rows' }),
  plan: (tensors) => ({
    tensors: tensors.map(({ role }) => {
      if (role === 'linear') return { action: 'quantize', settings: null }
      return { action: 'keep', reason: role === 'head' ? 'output head' : undefined }
    }),
    warnings: [],
    storedConfig: { quant_method: 'rows' },
  }),
  async quantize({ tensor }) {
    const [n, k] = tensor.shape
    const values = toFloat32(tensor) // [N, K]
    const codes = new Uint8Array(n * k)
    const scale = new Float32Array(n)
    for (let r = 0; r < n; r++) {
      const row = values.subarray(r * k, (r + 1) * k)
      scale[r] = row.reduce((max, x) => Math.max(max, Math.abs(x)), 0) / 127
      row.forEach((x, i) => {
        codes[r * k + i] = scale[r] > 0 ? 128 + Math.round(x / scale[r]) : 128
      })
    }
    return rowWeight(tensor.shape, codes, scale)
  },
  stored: {
    suffixes: ['.weight.rows_scale'],
    write: async (name, { parts }) => [
      { name, tensor: parts.codes },
      { name: `${name}.rows_scale`, tensor: parts.scale },
    ],
    isStored: (name, reader) => reader.has(`${name}.rows_scale`),
    async read(name, shape, reader) {
      const scale = toFloat32(await reader.read(`${name}.rows_scale`))
      return rowWeight(shape, (await reader.read(name)).data, scale)
    },
  },
}
