// HQQ: group-wise affine codes of 1 to 8 bits whose zero points a short optimisation moves; no calibration.

import type { FloatDType } from '../../core/dtypes.ts'
import { part } from '../../weights/weight.ts'
import type { Method, MethodFlags, Variant } from '../types.ts'
import { fromFlags, type Hqq, type HqqSettings, OPTIONS, parseConfig } from './config.ts'
import { plan } from './plan.ts'
import { quantize } from './quantize.ts'
import { stored } from './stored.ts'

const BITS = [8, 6, 5, 4, 3, 2, 1.58, 1]

const form = (name: string, bits: number, options: MethodFlags, dtype?: FloatDType): Variant => ({
  name: `${bits} bit, ${name}`,
  bits,
  options: { bits, ...options },
  dtype,
})
const FORMS: readonly Variant[] = [
  ...BITS.map((bits) => form('groups of 64', bits, {})),
  ...BITS.map((bits) => form('axis 0', bits, { axis: 0 }, 'F16')),
  form('groups of 8', 3, { groupSize: 8 }, 'BF16'),
  form('groups of several rows', 2, { groupSize: 1024 }),
  form('whole rows', 4, { groupSize: null }),
  form('whole columns', 4, { groupSize: null, axis: 0 }),
  form('one scale a tensor', 8, { channelWise: false }),
  form('not optimised', 4, { optimize: false, roundZero: false }),
  form('as floats', 3, { viewAsFloat: true }, 'BF16'),
  form('as floats', 4, { viewAsFloat: true, offloadMeta: true }, 'F16'),
  {
    name: 'by layer',
    bits: 3,
    options: {
      dynamicConfig: {
        'self_attn.q_proj': { nbits: 3, group_size: 32 },
        'self_attn.v_proj': { nbits: 8, group_size: 64 },
        'mlp.down_proj': { nbits: 2, group_size: 16, axis: 0 },
      },
    },
  },
]

export const hqq: Method<Hqq, HqqSettings> = {
  name: 'hqq',
  summary: 'affine groups of 1 to 8 bits with optimised zero points; no calibration',
  configClass: 'HqqConfig',
  container: 'safetensors',
  scope: 'tensor',
  capabilities: {
    bits: BITS,
    calibration: 'none',
    devices: ['cpu', 'wasm', 'reference'],
    onTheFly: true,
    serialisable: true,
  },
  variants: FORMS,
  options: OPTIONS,
  parseConfig,
  fromFlags,
  plan,
  quantize,
  stored,
  restoreDtype: (weight) => part(weight, 'scale').dtype as FloatDType,
}
