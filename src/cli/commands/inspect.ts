// `fewbit inspect MODEL`: tensors, dtypes, config, bits a weight. Reads headers only, unless a tensor's values are asked for.
import { localFiles } from '../../checkpoint/node/files.ts'
import { openCheckpoint } from '../../checkpoint/open.ts'
import type { Checkpoint, StoredTensor } from '../../checkpoint/types.ts'
import { type DType, elementCount, isFloat, rawTensor } from '../../core/dtypes.ts'
import { FileError, UsageError } from '../../core/errors.ts'
import { toFloat32 } from '../../core/half.ts'
import { toPlain } from '../../core/json.ts'
import {
  AFFINE_BLOCK_SIZE,
  affineBlockBytes,
  isAffineBlockType,
  unpackAffineBlocks,
} from '../../weights/affine-blocks.ts'
import { decodeSuperblocks, isSuperblockType, superblockBytes } from '../../weights/superblock/index.ts'
import { decode } from '../../weights/weight.ts'
import { command } from '../command.ts'
import { modelPath } from '../paths.ts'
import { formatBytes } from '../progress.ts'
import { table } from '../table.ts'

/** First values of a tensor: floats widened, blocks of GGUF decoded, everything else as bytes. */
const SHOWN_BYTES = 64
const SHOWN_VALUES = 16

async function firstValues(checkpoint: Checkpoint, tensor: StoredTensor): Promise<string> {
  const { dtype } = tensor
  const first = (bytes: number) => checkpoint.read(tensor, 0, Math.min(bytes, tensor.byteLength))
  const shown = (values: Float32Array) => [...values].map((v) => v.toPrecision(6)).join(' ')
  if (isSuperblockType(dtype))
    return shown(decodeSuperblocks(dtype, await first(superblockBytes(dtype)), 0, SHOWN_VALUES))
  if (isAffineBlockType(dtype)) {
    const block = unpackAffineBlocks(dtype, [1, AFFINE_BLOCK_SIZE], await first(affineBlockBytes(dtype)))
    return shown(decode(block, 0, SHOWN_VALUES))
  }
  const bytes = await first(SHOWN_BYTES)
  if (isFloat(dtype)) return shown(toFloat32(rawTensor(dtype as DType, [], bytes)))
  return [...bytes].map((b) => b.toString(16).padStart(2, '0')).join(' ')
}

interface DtypeSum {
  readonly dtype: string
  readonly tensors: number
  readonly elements: number
  readonly bytes: number
}

/** What the tensors of each dtype add up to, largest first. */
function byDtype(tensors: readonly StoredTensor[]): DtypeSum[] {
  const sums = new Map<string, DtypeSum>()
  for (const { dtype, shape, byteLength } of tensors) {
    const sum = sums.get(dtype) ?? { dtype, tensors: 0, elements: 0, bytes: 0 }
    sums.set(dtype, {
      dtype,
      tensors: sum.tensors + 1,
      elements: sum.elements + elementCount(shape),
      bytes: sum.bytes + byteLength,
    })
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
          format: checkpoint.container ?? checkpoint.format,
          tensors: tensors.map(({ name, dtype, shape, byteLength }) => ({ name, dtype, shape, byteLength })),
          sizeBytes: bytes,
          dtypes: summary,
          config,
          metadata: Object.fromEntries(metadata),
        },
        [
          `${args[0]}: ${checkpoint.container ?? checkpoint.format}, ${tensors.length} tensors, ${formatBytes(bytes)}`,
          config
            ? `config.json: ${JSON.stringify((config as Record<string, unknown>).quantization_config ?? 'no quantization_config')}`
            : '',
          metadata.length > 0 ? table(['key', 'value'], metadata) : '',
          table(
            ['dtype', 'tensors', 'elements', 'bits each', 'bytes'],
            summary.map((s) => [
              s.dtype,
              String(s.tensors),
              String(s.elements),
              String(Number(((8 * s.bytes) / s.elements).toFixed(4))),
              formatBytes(s.bytes),
            ]),
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
