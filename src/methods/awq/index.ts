// AWQ: 4-bit groups whose input channels are scaled by what the activations of calibration data say of them.
import type { Method } from '../types.ts'
import {
  type Awq,
  type AwqSettings,
  fromFlags,
  MARKER_FILE,
  markerConfig,
  OPTIONS,
  parseConfig,
  VERSIONS,
  WIDTHS,
} from './config.ts'
import { configOfTensors } from './infer.ts'
import { plan } from './plan.ts'
import { quantize } from './quantize.ts'
import { quantizeBlock } from './search.ts'
import { stored } from './stored.ts'

export const awq: Method<Awq, AwqSettings> = {
  name: 'awq',
  summary: 'groups of 4 bits (or 2, 3, 8), input channels scaled by activation statistics; calibrated',
  configClass: 'AwqConfig',
  container: 'safetensors',
  scope: 'block',
  capabilities: {
    bits: WIDTHS,
    calibration: 'required',
    devices: ['cpu', 'wasm', 'reference'],
    onTheFly: false,
    serialisable: true,
  },
  // The search is the same for every layout and width: one variant walks all of it.
  variants: [
    ...VERSIONS.map((version) => ({
      name: version,
      bits: 4,
      options: version === 'gemm' ? { groupSize: 32 } : { version, applyClip: false },
    })),
    ...WIDTHS.filter((bits) => bits !== 4).map((bits) => ({
      name: `${bits} bit${bits === 8 ? ', symmetric' : ''}`,
      bits,
      options: { bits, groupSize: 32, applyClip: false, zeroPoint: bits !== 8 },
    })),
  ],
  options: OPTIONS,
  marker: { file: MARKER_FILE, parse: markerConfig },
  configOfTensors,
  parseConfig,
  fromFlags,
  plan,
  quantize,
  block: {
    // AutoAWQ: 128 samples of at most 512 tokens.
    data: () => ({ cut: 'short-samples', length: 512, samples: 128 }),
    feeds: 'original',
    // Two sequences: the search of factors goes by few of them first.
    batchRows: 1024,
    fingerprint: ({ duoScaling, applyClip }) => [duoScaling, applyClip],
    quantize: quantizeBlock,
  },
  stored,
  torchFile: ({ version }) => version === 'llm-awq',
  restoreDtype: () => 'F16',
}
