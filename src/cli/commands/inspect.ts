// `fewbit inspect MODEL`: tensors, dtypes, config, bits a weight. Reads headers only, unless a tensor's values are asked for.
import { localFiles } from '../../checkpoint/node/files.ts'
import { openCheckpoint } from '../../checkpoint/open.ts'
import type { Checkpoint, StoredTensor } from '../../checkpoint/types.ts'
import { type DType, elementCount, isFloat, rawTensor } from '../../core/dtypes.ts'
import { FileError, UsageError } from '../../core/errors.ts'
import { toFloat32 } from '../../core/half.ts'
import { toPlain } from '../../core/json.ts'
import { command } from '../command.ts'
import { modelPath } from '../paths.ts'
import { formatBytes } from '../progress.ts'
import { table } from '../table.ts'

/** First values of a tensor: floats widened, everything else as bytes. */
const SHOWN_BYTES = 64

async function firstValues(checkpoint: Checkpoint, tensor: StoredTensor): Promise<string> {
  const bytes = await checkpoint.read(tensor, 0, Math.min(SHOWN_BYTES, tensor.byteLength))
  if (isFloat(tensor.dtype))
    return [...toFloat32(rawTensor(tensor.dtype as DType, [], bytes))].map((v) => v.toPrecision(6)).join(' ')
  return [...bytes].map((b) => b.toString(16).padStart(2, '0')).join(' ')
}

/** `n tensors, bytes` of each dtype, largest first. */
function byDtype(tensors: readonly StoredTensor[]): { dtype: string; tensors: number; bytes: number }[] {
  const sums = new Map<string, { dtype: string; tensors: number; bytes: number }>()
  for (const { dtype, byteLength } of tensors) {
    const sum = sums.get(dtype) ?? { dtype, tensors: 0, bytes: 0 }
    sums.set(dtype, { dtype, tensors: sum.tensors + 1, bytes: sum.bytes + byteLength })
  }
  return [...sums.values()].sort((a, b) => b.bytes - a.bytes)
}

/** A metadata value short enough for one line. */
function shortValue(value: unknown): string {
  const plain =
    typeof value === 'object' && value !== null && 'value' in value ? (value as { value: unknown }).value : value
  if (Array.isArray(plain) || ArrayBuffer.isView(plain))
    return `[${(plain as unknown as { length: number }).length} values]`
  const text = typeof plain === 'bigint' ? String(plain) : (JSON.stringify(plain) ?? '')
  return text.length > 70 ? `${text.slice(0, 67)}...` : text
}

export default command({
  summary: 'what is in a model or file: tensors, schemes, config, odd things',
  arguments: [{ name: '<model>', description: 'a folder in Hugging Face form, a .gguf file, or "embedded"' }],
  options: [{ flags: '--tensor <name>', description: 'the first values of one tensor' }],
  examples: ['fewbit inspect embedded', 'fewbit inspect embedded --tensor model.norm.weight'],
  async run({ args, options, output }) {
    const checkpoint = await openCheckpoint(await localFiles(modelPath(args[0]!)))
    try {
      const tensors = [...checkpoint.tensors.values()]
      if (options.tensor) {
        const tensor = checkpoint.tensors.get(String(options.tensor))
        if (!tensor)
          throw new UsageError(`There is no tensor "${options.tensor}" in "${args[0]}"`, {
            tensor: options.tensor,
            hint: `fewbit inspect ${args[0]}`,
          })
        const values = await firstValues(checkpoint, tensor)
        output.result(
          { ...tensor, values },
          `${tensor.name}  ${tensor.dtype} [${tensor.shape.join(', ')}]  ${formatBytes(tensor.byteLength)} at ${tensor.offset} of ${tensor.file}\n${values}`,
        )
        return
      }
      const bytes = tensors.reduce((sum, t) => sum + t.byteLength, 0)
      if (tensors.length === 0) throw new FileError(`"${args[0]}" holds no tensors`, { file: args[0] })
      const config = checkpoint.config ? toPlain(checkpoint.config) : null
      const summary = byDtype(tensors)
      const metadata = [...checkpoint.metadata].map(([key, value]) => [key, shortValue(value)])
      output.result(
        {
          format: checkpoint.format,
          tensors: tensors.map(({ name, dtype, shape, byteLength }) => ({ name, dtype, shape, byteLength })),
          sizeBytes: bytes,
          config,
          metadata: Object.fromEntries(metadata),
        },
        [
          `${args[0]}: ${checkpoint.format}, ${tensors.length} tensors, ${formatBytes(bytes)}`,
          config
            ? `config.json: ${JSON.stringify((config as Record<string, unknown>).quantization_config ?? 'no quantization_config')}`
            : '',
          metadata.length > 0 ? table(['key', 'value'], metadata) : '',
          table(
            ['dtype', 'tensors', 'bytes'],
            summary.map((s) => [s.dtype, String(s.tensors), formatBytes(s.bytes)]),
          ),
          table(
            ['tensor', 'dtype', 'shape', 'elements', 'bytes'],
            tensors.map((t) => [
              t.name,
              t.dtype,
              `[${t.shape.join(', ')}]`,
              String(elementCount(t.shape)),
              formatBytes(t.byteLength),
            ]),
          ),
        ]
          .filter(Boolean)
          .join('\n\n'),
      )
    } finally {
      await checkpoint.close()
    }
  },
})
