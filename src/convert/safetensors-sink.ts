// Safetensors files as a sink. Known sizes: every tensor is written at its final place. Unknown sizes: a spool takes them in order of
// arrival and is assembled at the end.
import { safetensorsBytes, safetensorsHeader, safetensorsOrder } from '../checkpoint/safetensors.ts'
import { INDEX_FILE, indexText, planShards } from '../checkpoint/shards.ts'
import type { ByteSink, OutputStore } from '../checkpoint/types.ts'
import { Conveyor, type Route } from './conveyor.ts'
import { writeFile, writeText } from './files.ts'
import type { OutputTensor } from './plan.ts'
import { DirectSink, type Place, type TensorSink } from './sink.ts'

export interface SafetensorsOptions {
  readonly metadata: ReadonlyMap<string, string>
  readonly maxShardBytes?: number
  /** The model's own number of parameters, for the index. */
  readonly parameters: number
}

function safetensorsFiles(tensors: readonly OutputTensor[], options: SafetensorsOptions) {
  const shards = planShards(tensors, options.maxShardBytes)
  const files = shards.map((shard) => {
    const entries = [...shard.entries].sort(safetensorsOrder)
    const { header, offsets, total } = safetensorsHeader(entries, options.metadata)
    const places = entries.map(
      (t, i): Place => ({
        name: t.name,
        dtype: t.dtype,
        shape: t.shape,
        file: shard.file,
        at: offsets[i],
        bytes: safetensorsBytes(t),
      }),
    )
    return { file: shard.file, header, total, places }
  })
  return { files, index: shards.length > 1 ? indexText(shards, options.parameters) : undefined }
}

async function writeIndex(output: OutputStore, index: string | undefined): Promise<void> {
  if (index !== undefined) await writeText(output, INDEX_FILE, index)
}

/** model.safetensors, or shards with their index, all sizes known. */
export class SafetensorsSink extends DirectSink {
  private readonly tensors: readonly OutputTensor[]
  private readonly options: SafetensorsOptions
  constructor(output: OutputStore, tensors: readonly OutputTensor[], options: SafetensorsOptions) {
    super(output)
    this.tensors = tensors
    this.options = options
  }

  protected layout() {
    return safetensorsFiles(this.tensors, this.options).files
  }

  protected override async complete(): Promise<void> {
    await writeIndex(this.output, safetensorsFiles(this.tensors, this.options).index)
  }
}

const SPOOL = 'spool'

/** model.safetensors, or shards with their index, from tensors whose sizes come with them. */
export class SpooledSafetensorsSink implements TensorSink {
  private readonly output: OutputStore
  private readonly options: SafetensorsOptions
  private spool: ByteSink | undefined
  private end = 0
  constructor(output: OutputStore, options: SafetensorsOptions) {
    this.output = output
    this.options = options
  }

  async open(done: readonly Place[]): Promise<void> {
    this.spool = await this.output.resume(SPOOL)
    this.end = done.reduce((end, p) => Math.max(end, p.at + p.bytes), 0)
  }

  place({ name, dtype, shape }: OutputTensor, bytes: number): Place {
    const at = this.end
    this.end += bytes
    return { name, dtype, shape, file: SPOOL, at, bytes }
  }

  async write(place: Place, offset: number, bytes: Uint8Array): Promise<void> {
    await this.spool!.writeAt(place.at + offset, bytes)
  }

  async finish(all: readonly Place[]): Promise<number> {
    await this.close()
    const from = new Map(all.map((p) => [p.name, p]))
    const { files, index } = safetensorsFiles(all, this.options)
    const spool = await this.output.reopen(SPOOL)
    const conveyor = new Conveyor()
    try {
      for (const { file, header, places } of files)
        await writeFile(this.output, file, async (sink) => {
          await sink.writeAt(0, header)
          const route = ({ name, at, bytes }: Place): Route => {
            const start = from.get(name)!.at
            return {
              bytes,
              read: (first, end, into) => spool.read(start + first, end - first, into),
              write: (first, piece) => sink.writeAt(at + first, piece),
            }
          }
          await conveyor.move(places.map(route))
        })
    } finally {
      await spool.close()
    }
    await writeIndex(this.output, index)
    await this.output.remove(SPOOL)
    return files.reduce((sum, f) => sum + f.total, 0)
  }

  async close(): Promise<void> {
    const spool = this.spool
    this.spool = undefined
    await spool?.close()
  }
}
