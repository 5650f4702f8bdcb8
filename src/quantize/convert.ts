// The verb `convert`: any model -> a float folder, or a GGUF file. Two uses of the engine: what is quantised is restored to floats on the
// way, exactly as its method defines them.
import type { OutputStore } from '../checkpoint/types.ts'
import { type FloatDType, TORCH_DTYPES } from '../core/dtypes.ts'
import { UsageError } from '../core/errors.ts'
import { methodNamed } from '../methods/index.ts'
import { dequantizedSource } from '../models/dequantized.ts'
import { withKeptCodes } from '../models/gguf/kept-codes.ts'
import type { ModelSource } from '../models/source.ts'
import { type QuantizeOptions, type QuantizeResult, quantizeModel } from './quantize.ts'
import { writeFloat } from './write-float.ts'

/** What a model is converted to. */
export type ConvertTarget =
  | { readonly kind: 'float'; readonly dtype: FloatDType }
  | { readonly kind: 'gguf'; readonly type: string; readonly config: unknown }

const FLOATS: Readonly<Record<string, FloatDType>> = { bf16: 'BF16', f16: 'F16', f32: 'F32' }

/** Reads `float:bf16`, `gguf:q4_k_m`; `flags`: keys of the GGUF method's config besides its type. Throws UsageError and ConfigError. */
export function parseTarget(text: string, flags: Readonly<Record<string, unknown>> = {}): ConvertTarget {
  const [kind, type = ''] = text.toLowerCase().split(':')
  if (kind === 'float') {
    const dtype = FLOATS[type] ?? (TORCH_DTYPES[type] as FloatDType | undefined)
    const [unexpected] = Object.keys(flags)
    if (unexpected)
      throw new UsageError(`Unknown option --${unexpected} for --to ${text}`, { hint: 'fewbit convert --help' })
    if (dtype && Object.values(FLOATS).includes(dtype)) return { kind, dtype }
  }
  if (kind === 'gguf' && type !== '') {
    const method = methodNamed('gguf')
    return { kind, type, config: method.parseConfig(method.fromFlags({ ...flags, type })) }
  }
  throw new UsageError(
    `--to is "${text}", expected float:bf16, float:f16, float:f32 or gguf:TYPE (gguf:f16, gguf:q8_0, gguf:q4_k_m ...)`,
    { flag: 'to', actual: text, hint: 'fewbit convert --help; to quantise a float model: fewbit quantize --help' },
  )
}

/** Converts `source` into `output`. Throws UnsupportedError where source and target do not fit. */
export async function convertModel(
  source: ModelSource,
  target: ConvertTarget,
  output: OutputStore,
  options: QuantizeOptions = {},
): Promise<QuantizeResult> {
  const { kernels } = options
  const isGguf = source.checkpoint.format === 'gguf'
  if (target.kind === 'float') {
    const float = await dequantizedSource(source, { dtype: target.dtype, kernels })
    return writeFloat(float, output, options)
  }
  const method = methodNamed('gguf')
  const { config } = target
  if (isGguf || !source.method) return quantizeModel(source, method, config, output, options)
  const float = await dequantizedSource(source, { kernels })
  return quantizeModel(float, method, config, output, {
    ...options,
    adaptView: codesKept(source, target.type, options),
  })
}

/** For a type that some weights of `source` can be written as with their codes: the view in which they are. */
function codesKept(
  source: ModelSource,
  type: string,
  { kernels, onEvent }: QuantizeOptions,
): QuantizeOptions['adaptView'] {
  if (type !== 'q4_1') return undefined
  return async (view) => {
    const { view: adapted, kept } = await withKeptCodes(view, source, 'Q4_1', kernels)
    if (kept.length > 0)
      onEvent?.({ event: 'step', name: 'keep codes', done: kept.length, total: source.parameters.length })
    return adapted
  }
}
