// AQLM: groups of weights as sums of learned codebook entries, 1 to 4 bits a weight; needs calibration.
import type { FloatDType } from '../../core/dtypes.ts'
import { part } from '../../weights/weight.ts'
import type { Method } from '../types.ts'
import { block } from './block.ts'
import { type Aqlm, fromFlags, OPTIONS, parseConfig } from './config.ts'
import { plan } from './plan.ts'
import { type AqlmSettings, quantize } from './quantize.ts'
import { stored } from './stored.ts'

export const aqlm: Method<Aqlm, AqlmSettings> = {
  name: 'aqlm',
  summary: 'sums of learned codebook entries, 1 to 4 bits; calibrated block by block',
  configClass: 'AqlmConfig',
  container: 'safetensors',
  scope: 'block',
  capabilities: {
    bits: [1, 2, 3, 4],
    calibration: 'required',
    devices: ['cpu', 'wasm', 'reference'],
    onTheFly: false,
    serialisable: true,
  },
  options: OPTIONS,
  parseConfig,
  fromFlags,
  plan,
  quantize,
  block,
  stored,
  restoreDtype: (weight) => part(weight, 'codebooks').dtype as FloatDType,
}
