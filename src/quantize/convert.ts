// The verb `convert`: any model -> a float folder, or a GGUF file. Two uses of the engine: what is quantised is restored to floats on the
// way, exactly as its method defines them.
import type { OutputStore } from '../checkpoint/types.ts'
import { type FloatDType, TORCH_DTYPES } from '../core/dtypes.ts'
import { UsageError } from '../core/errors.ts'
import { methodNamed } from '../methods/index.ts'
import { dequantizedSource } from '../models/dequantized.ts'
import type { ModelSource } from '../models/source.ts'
import { type QuantizeOptions, type QuantizeResult, quantizeModel } from './quantize.ts'
import { writeFloat } from './write-float.ts'

/** What a model is converted to. */
export type ConvertTarget =
  | { readonly kind: 'float'; readonly dtype: FloatDType }
  | { readonly kind: 'gguf'; readonly type: string }

const FLOATS: Readonly<Record<string, FloatDType>> = { bf16: 'BF16', f16: 'F16', f32: 'F32' }

/** Reads `float:bf16`, `gguf:q4_k_m`. Throws UsageError. */
export function parseTarget(text: string): ConvertTarget {
  const [kind, type = ''] = text.toLowerCase().split(':')
  if (kind === 'float') {
    const dtype = FLOATS[type] ?? (TORCH_DTYPES[type] as FloatDType | undefined)
    if (dtype && Object.values(FLOATS).includes(dtype)) return { kind, dtype }
  }
  if (kind === 'gguf' && type !== '') return { kind, type }
  throw new UsageError(
    `--to is "${text}", expected float:bf16, float:f16, float:f32 or gguf:TYPE (gguf:f16, gguf:q8_0, gguf:q4_k_m ...)`,
    { flag: 'to', actual: text, hint: 'fewbit convert --help; to quantise a float model: fewbit quantize --help' },
  )
}

export interface ConvertOptions extends QuantizeOptions {
  /** Keys of the GGUF method's config besides its type. */
  readonly ggufConfig?: Readonly<Record<string, unknown>>
}

/** Converts `source` into `output`. Throws UnsupportedError where source and target do not fit. */
export async function convertModel(
  source: ModelSource,
  target: ConvertTarget,
  output: OutputStore,
  options: ConvertOptions = {},
): Promise<QuantizeResult> {
  const { kernels } = options
  const isGguf = source.checkpoint.format === 'gguf'
  if (target.kind === 'float') {
    const float = await dequantizedSource(source, { dtype: target.dtype, kernels })
    return writeFloat(float, output, options)
  }
  const method = methodNamed('gguf')
  const config = method.parseConfig(method.fromFlags({ ...options.ggufConfig, type: target.type }))
  const from = isGguf || !source.method ? source : await dequantizedSource(source, { kernels })
  return quantizeModel(from, method, config, output, options)
}
