import type { Method, ModelInfo, QuantizationPlan, TensorInfo } from '../types.ts'
import { type BitsAndBytes, type BitsAndBytesSettings, fromFlags, parseConfig } from './config.ts'
import { quantize } from './quantize.ts'
import { stored } from './stored.ts'

function plan(
  tensors: readonly TensorInfo[],
  _model: ModelInfo,
  config: BitsAndBytes,
): QuantizationPlan<BitsAndBytesSettings> {
  return {
    tensors: tensors.map((t) => {
      if (t.role === 'linear') return { action: 'quantize', settings: { quantType: config.quantType, blockSize: 64 } }
      return { action: 'keep', reason: t.role === 'head' ? 'output head' : undefined }
    }),
    warnings: [],
    storedConfig: config.stored,
  }
}

export const bitsandbytes: Method<BitsAndBytes, BitsAndBytesSettings> = {
  name: 'bitsandbytes',
  summary: 'NF4 and FP4 in blocks of 64, LLM.int8; no calibration',
  configClass: 'BitsAndBytesConfig',
  container: 'safetensors',
  scope: 'tensor',
  capabilities: {
    bits: [4],
    calibration: 'none',
    devices: ['cpu', 'wasm', 'reference'],
    onTheFly: true,
    serialisable: true,
  },
  parseConfig,
  fromFlags,
  plan,
  quantize,
  stored,
}
