// savePretrained of a model that nobody changed: the same bytes. A split GGUF becomes one file.
import { ggufMetadata } from '../checkpoint/gguf/open.ts'
import { withoutSplit } from '../checkpoint/gguf/split.ts'
import type { Checkpoint, OutputStore } from '../checkpoint/types.ts'
import { UnsupportedError } from '../core/errors.ts'
import type { WorkOptions } from '../core/events.ts'
import { convert, workKey } from './engine.ts'
import { copyFile, copyFolder } from './files.ts'
import { GgufSink } from './gguf-sink.ts'
import type { CopyJob } from './plan.ts'

/** Name of the file where a GGUF goes to a folder. */
export const GGUF_FILE = 'model.gguf'

/** Writes `checkpoint` as it is to `output` and commits. */
export async function saveUnchanged(
  checkpoint: Checkpoint,
  output: OutputStore,
  options: WorkOptions = {},
): Promise<void> {
  const weights = [...new Set([...checkpoint.tensors.values()].map((t) => t.file))]
  if (checkpoint.format === 'safetensors' && output.single !== undefined) {
    if (weights.length !== 1 || !weights[0].endsWith('.pt'))
      throw new UnsupportedError(
        `Cannot save "${checkpoint.files.name}" to "${output.name}": it is no file of torch.save`,
        {
          file: output.name,
          hint: 'name a folder',
        },
      )
    await copyFile(checkpoint.files, weights[0], output, output.single)
    await output.commit()
    return
  }
  if (checkpoint.format === 'safetensors') {
    await copyFolder(checkpoint.files, weights, output)
    await output.commit()
    return
  }
  const file = output.single ?? GGUF_FILE
  if (weights.length > 1) {
    await joinSplit(checkpoint, file, output, options)
    return
  }
  await copyFile(checkpoint.files, weights[0], output, file)
  await output.commit()
}

async function joinSplit(
  checkpoint: Checkpoint,
  file: string,
  output: OutputStore,
  options: WorkOptions,
): Promise<void> {
  const metadata = withoutSplit(ggufMetadata(checkpoint))
  const tensors = [...checkpoint.tensors.values()]
  const jobs = tensors.map((tensor): CopyJob => copyJob(checkpoint, tensor.name))
  const key = await workKey(['join', checkpoint.files.name, tensors])
  await convert(jobs, new GgufSink(output, file, metadata, tensors), output, { ...options, name: 'copy', key })
}

/** Copies tensor `name` byte for byte. */
export function copyJob(checkpoint: Checkpoint, name: string): CopyJob {
  const tensor = checkpoint.tensors.get(name)!
  return {
    action: 'copy',
    name,
    inputBytes: tensor.byteLength,
    output: { name, dtype: tensor.dtype, shape: tensor.shape },
    read: (from, to, into) => checkpoint.read(tensor, from, to, into),
  }
}
