// HQQ: group-wise affine codes of 1 to 8 bits whose zero points a short optimisation moves; no calibration.

import type { FloatDType } from '../../core/dtypes.ts'
import { part } from '../../weights/weight.ts'
import type { Method } from '../types.ts'
import { FLAG_KEYS, fromFlags, type Hqq, type HqqSettings, parseConfig } from './config.ts'
import { plan } from './plan.ts'
import { quantize } from './quantize.ts'
import { stored } from './stored.ts'

export const hqq: Method<Hqq, HqqSettings> = {
  name: 'hqq',
  summary: 'affine groups of 1 to 8 bits with optimised zero points; no calibration',
  configClass: 'HqqConfig',
  container: 'safetensors',
  scope: 'tensor',
  capabilities: {
    bits: [8, 6, 5, 4, 3, 2, 1.58, 1],
    calibration: 'none',
    devices: ['cpu', 'wasm', 'reference'],
    onTheFly: true,
    serialisable: true,
  },
  options: FLAG_KEYS,
  parseConfig,
  fromFlags,
  plan,
  quantize,
  stored,
  restoreDtype: (weight) => part(weight, 'scale').dtype as FloatDType,
}
