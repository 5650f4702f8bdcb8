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
  // Without epochs of search: the suite compares kernels with the definition, which is slow.
  variants: [
    { name: '1x8 g8', bits: 1, options: { type: '1x8g8', maxEpochs: 0 } },
    { name: '2x8 g8, bf16', bits: 2, options: { type: '2x8g8', maxEpochs: 0 }, dtype: 'BF16' },
    { name: '3x8 g8', bits: 3, options: { type: '3x8g8', maxEpochs: 0 } },
    { name: '2x4 g4, pairs of rows', bits: 1, options: { type: '2x4g4', outGroupSize: 2, maxEpochs: 0 }, dtype: 'F16' },
    { name: '4x4 g4', bits: 4, options: { type: '4x4g4', maxEpochs: 0, beamSize: 2 } },
  ],
  options: OPTIONS,
  parseConfig,
  fromFlags,
  plan,
  quantize,
  block,
  stored,
  restoreDtype: (weight) => part(weight, 'codebooks').dtype as FloatDType,
}
