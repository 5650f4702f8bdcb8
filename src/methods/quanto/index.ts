// Quanto: 2 and 4 bits by groups, int8 and float8 by rows, from the weights alone; activations by calibration.
import type { Method } from '../types.ts'
import { block } from './calibrate.ts'
import {
  fingerprint,
  fromFlags,
  markerConfig,
  OPTIONS,
  parseConfig,
  QMAP_FILE,
  type Quanto,
  type QuantoSettings,
} from './config.ts'
import { plan, untiesHead } from './plan.ts'
import { QTYPE_NAMES, qtypeNamed } from './qtypes.ts'
import { quantize } from './quantize.ts'
import { stored } from './stored.ts'

export const quanto: Method<Quanto, QuantoSettings> = {
  name: 'quanto',
  summary:
    'affine groups of 2 and 4 bits, int8 and float8 rows; the range of the weights, or HQQ; activations calibrated',
  configClass: 'QuantoConfig',
  container: 'safetensors',
  scope: 'tensor',
  capabilities: {
    bits: [2, 4, 8],
    calibration: 'optional',
    devices: ['cpu', 'wasm', 'reference'],
    onTheFly: true,
    serialisable: true,
  },
  variants: [
    ...QTYPE_NAMES.map((type) => ({ name: type, bits: qtypeNamed(type)!.bits, options: { type } })),
    { name: 'int4, optimised', bits: 4, options: { bits: 4, optimizer: 'hqq' } },
    { name: 'int2, optimised, float16', bits: 2, options: { bits: 2, optimizer: 'hqq' }, dtype: 'F16' },
    { name: 'int4, bfloat16, shifts of int4pack', bits: 4, options: { bits: 4, tinygemm: true }, dtype: 'BF16' },
    { name: 'int8, head too', bits: 8, options: { bits: 8, exclude: [] }, dtype: 'BF16' },
    { name: 'int8, int8 activations', bits: 8, options: { bits: 8, activations: 'int8' } },
    { name: 'int4, int8 activations, float16', bits: 4, options: { bits: 4, activations: 'int8' }, dtype: 'F16' },
    { name: 'float8, float8 activations', bits: 8, options: { type: 'float8', activations: 'float8' } },
    { name: 'float8_e5m2 twice', bits: 8, options: { type: 'float8_e5m2', activations: 'float8_e5m2' } },
    { name: 'int2, float8_e4m3fnuz activations', bits: 2, options: { bits: 2, activations: 'float8_e4m3fnuz' } },
  ],
  options: OPTIONS,
  marker: { file: QMAP_FILE, parse: markerConfig },
  untiesHead,
  parseConfig,
  fromFlags,
  fingerprint,
  plan,
  quantize,
  block,
  stored,
  restoreDtype: ({ parts }) => parts.scale.dtype,
}
