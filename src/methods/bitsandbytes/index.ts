// bitsandbytes: NF4 and FP4 in blocks, LLM.int8 by rows; no calibration.
import type { LookupScheme } from '../../weights/scheme.ts'
import type { Method, Variant } from '../types.ts'
import {
  type BitsAndBytes,
  type BitsAndBytesSettings,
  fromFlags,
  OPTIONS,
  parseConfig,
  STORAGE_DTYPES,
} from './config.ts'
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
  variants: [
    { name: 'nf4', bits: 4, options: { type: 'nf4' } },
    { name: 'fp4', bits: 4, options: { type: 'fp4' }, dtype: 'F16' },
    { name: 'nf4, nested scales', bits: 4, options: { type: 'nf4', bnb4bitUseDoubleQuant: true } },
    { name: 'fp4, nested scales', bits: 4, options: { type: 'fp4', bnb4bitUseDoubleQuant: true }, dtype: 'BF16' },
    ...STORAGE_DTYPES.map(
      (storage): Variant => ({
        name: `nf4 in ${storage}`,
        bits: 4,
        options: { type: 'nf4', bnb4bitQuantStorage: storage },
        dtype: 'BF16',
      }),
    ),
    { name: 'int8', bits: 8, options: { type: 'int8' } },
    { name: 'int8, outliers', bits: 8, options: { type: 'int8', llmInt8Threshold: 1 }, dtype: 'F16' },
    { name: 'int8, no outliers', bits: 8, options: { type: 'int8', llmInt8Threshold: 0 }, dtype: 'BF16' },
  ],
  options: OPTIONS,
  parseConfig,
  fromFlags,
  plan,
  quantize,
  stored,
  restoreDtype: ({ scheme }) => (scheme.kind === 'lookup' ? ((scheme as LookupScheme).original ?? 'F32') : 'F32'),
}
