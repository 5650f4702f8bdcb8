// bitsandbytes: NF4 and FP4 in blocks, LLM.int8 by rows; no calibration.
import type { LookupScheme } from '../../weights/scheme.ts'
import type { Method } from '../types.ts'
import { type BitsAndBytes, type BitsAndBytesSettings, fromFlags, OPTIONS, parseConfig } from './config.ts'
import { plan } from './plan.ts'
import { quantize } from './quantize.ts'
import { stored } from './stored.ts'

export const bitsandbytes: Method<BitsAndBytes, BitsAndBytesSettings> = {
  name: 'bitsandbytes',
  summary: 'NF4 and FP4 in blocks of 64, LLM.int8; no calibration',
  configClass: 'BitsAndBytesConfig',
  container: 'safetensors',
  scope: 'tensor',
  capabilities: {
    bits: [4, 8],
    calibration: 'none',
    devices: ['cpu', 'wasm', 'reference'],
    onTheFly: true,
    serialisable: true,
  },
  options: OPTIONS,
  parseConfig,
  fromFlags,
  plan,
  quantize,
  stored,
  restoreDtype: ({ scheme }) => (scheme.kind === 'lookup' ? ((scheme as LookupScheme).original ?? 'F32') : 'F32'),
}
