// EETQ: int8 with one scale for each output feature, in the byte order of the GPU kernels; no calibration.
import { automaticSkips, decideSkips, moduleOf } from '../skip.ts'
import type { Method, ModelInfo, QuantizationPlan, TensorInfo, TensorPlan } from '../types.ts'
import { type Eetq, type EetqSettings, fromFlags, OPTIONS, parseConfig, SKIP_KEY } from './config.ts'
import { quantize } from './quantize.ts'
import { fits, stored } from './stored.ts'

function plan(tensors: readonly TensorInfo[], model: ModelInfo, config: Eetq): QuantizationPlan<EetqSettings> {
  const { settings, skipModules } = config
  const { reasons, warnings } = decideSkips(tensors, model, skipModules, SKIP_KEY)
  const ragged: string[] = []
  const entries = tensors.map((tensor, i): TensorPlan<EetqSettings> => {
    const isLinear = tensor.role === 'linear' || tensor.role === 'head'
    if (!isLinear || reasons[i] !== undefined) return { action: 'keep', reason: reasons[i] }
    if (fits(settings.packing, tensor.shape)) return { action: 'quantize', settings }
    ragged.push(moduleOf(tensor.name))
    const reason = `[${tensor.shape}] does not divide into the tiles of ${settings.packing.name}`
    return { action: 'keep', reason }
  })
  // A list replaces the reference's own: names that are added to none stand beside the automatic ones.
  const list = ragged.length > 0 ? [...(skipModules ?? automaticSkips(tensors, model)), ...ragged] : skipModules
  return {
    tensors: entries,
    warnings: [...config.warnings, ...warnings],
    storedConfig: { [SKIP_KEY]: list && [...list], quant_method: 'eetq', weights: 'int8' },
  }
}

export const eetq: Method<Eetq, EetqSettings> = {
  name: 'eetq',
  summary: 'int8 with one scale for each output feature, as float16 GPU kernels read it; no calibration',
  configClass: 'EetqConfig',
  container: 'safetensors',
  scope: 'tensor',
  capabilities: {
    bits: [8],
    calibration: 'none',
    devices: ['cpu', 'wasm', 'reference'],
    onTheFly: true,
    serialisable: true,
  },
  variants: [
    { name: 'int8', bits: 8, options: {} },
    { name: 'int8 from bfloat16, head too', bits: 8, options: { modulesToNotConvert: [] }, dtype: 'BF16' },
    { name: 'int8 for Volta', bits: 8, options: { arrangement: 'sm70' }, dtype: 'F16' },
  ],
  options: OPTIONS,
  floatDtype: 'F16',
  parseConfig,
  fromFlags,
  plan,
  quantize,
  // Where the outermost loop runs over rows, slices of its step are stored one after another.
  sliceRows: (_info, { packing }) => (packing.axes?.[0].axis === 'row' ? packing.axes[0].step : undefined),
  stored,
  restoreDtype: () => 'F16',
}
