// Which linears are quantised and why the others are not; everything that can be refused is refused before any work.
import { DTYPE_BYTES, elementCount, torchName } from '../../core/dtypes.ts'
import { ConfigError, WeightError } from '../../core/errors.ts'
import { decideSkips } from '../skip.ts'
import type { ModelInfo, QuantizationPlan, TensorInfo, TensorPlan } from '../types.ts'
import { type BitsAndBytes, type BitsAndBytesSettings, SKIP_KEY } from './config.ts'

/** Dtypes that the reference quantises; float64 is rejected there too. */
const QUANTISABLE = ['F32', 'F16', 'BF16']

/** Throws WeightError where `tensor` cannot be quantised with `settings`. */
function assertQuantisable(tensor: TensorInfo, settings: BitsAndBytesSettings): void {
  const { name, shape, dtype } = tensor
  const where = { tensor: name, shape, actual: dtype }
  if (!QUANTISABLE.includes(dtype))
    throw new WeightError(
      `Cannot quantise "${name}" with bitsandbytes: it is ${dtype}, expected ${QUANTISABLE.join(', ')}`,
      { ...where, expected: QUANTISABLE, hint: dtype === 'F64' ? '--dtype float32' : `add it to ${SKIP_KEY}` },
    )
  if (settings.kind !== '4bit') return
  const bytes = Math.ceil(elementCount(shape) / 2)
  const itemBytes = DTYPE_BYTES[settings.storage]
  if (bytes % itemBytes !== 0)
    throw new WeightError(
      `Cannot store "${name}" [${shape}] as ${torchName(settings.storage)}: its ${bytes} packed bytes do not divide by ${itemBytes}`,
      { ...where, bytes, hint: '--bnb-4bit-quant-storage uint8' },
    )
}

export function plan(
  tensors: readonly TensorInfo[],
  model: ModelInfo,
  config: BitsAndBytes,
): QuantizationPlan<BitsAndBytesSettings> {
  const { settings } = config
  if (settings.kind === 'int8' && config.hasFp16Weight)
    throw new ConfigError(
      'Cannot quantise with "llm_int8_has_fp16_weight": true: it keeps float weights, which would be stored as they are',
      { key: 'llm_int8_has_fp16_weight', hint: 'set it to false' },
    )
  const { reasons, warnings } = decideSkips(tensors, model, config.skipModules, SKIP_KEY)
  return {
    tensors: tensors.map((tensor, i): TensorPlan<BitsAndBytesSettings> => {
      const isLinear = tensor.role === 'linear' || tensor.role === 'head'
      if (!isLinear || reasons[i] !== undefined) return { action: 'keep', reason: reasons[i] }
      assertQuantisable(tensor, settings)
      return { action: 'quantize', settings }
    }),
    warnings: [...config.warnings, ...warnings],
    storedConfig: config.stored,
  }
}
