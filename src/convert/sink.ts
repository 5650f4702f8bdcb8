// Where the engine puts tensors. Known sizes: every tensor is written at its final place. Unknown sizes: a spool takes them in order of
// arrival and is assembled at the end. Both remember nothing between runs: the journal says where each tensor's bytes are.
import type { GgufMetadata } from '../checkpoint/gguf/metadata.ts'
import { splitMetadata, splitName, splitRuns } from '../checkpoint/gguf/split.ts'
import { type GgufEntry, ggufEntryBytes, ggufLayout } from '../checkpoint/gguf/writer.ts'
import { safetensorsBytes, safetensorsHeader, safetensorsOrder } from '../checkpoint/safetensors.ts'
import { INDEX_FILE, indexText, planShards } from '../checkpoint/shards.ts'
import type { ByteSink, OutputStore } from '../checkpoint/types.ts'
import { BugError } from '../core/errors.ts'
import { Conveyor } from './conveyor.ts'
import type { OutputTensor } from './plan.ts'

/** Where a tensor's bytes lie: file of the output store, offset and length. */
export interface Place extends OutputTensor {
  readonly file: string
  readonly at: number
  readonly bytes: number
}

export interface TensorSink {
  /** Names of the files of a model that is no folder. */
  readonly files?: readonly string[]
  /** Opens the files, keeping what `done` describes. */
  open(done: readonly Place[]): Promise<void>
  /** Where this tensor goes; asked once, before its bytes. */
  place(tensor: OutputTensor, bytes: number): Place
  write(place: Place, offset: number, bytes: Uint8Array): Promise<void>
  /** Completes the files. Returns their size. */
  finish(all: readonly Place[]): Promise<number>
  /** Closes what is open after a failure; the bytes stay. */
  close(): Promise<void>
}

/** Files whose layout is known: header first, then tensors at fixed places. */
abstract class DirectSink implements TensorSink {
  protected readonly output: OutputStore
  private readonly sinks = new Map<string, ByteSink>()
  private readonly places = new Map<string, Place>()
  private total = 0
  constructor(output: OutputStore) {
    this.output = output
  }

  /** Headers by file, and the place of every tensor. `padTo` is the length of the whole file. */
  protected abstract layout(): { file: string; header: Uint8Array; total: number; places: readonly Place[] }[]

  async open(): Promise<void> {
    for (const { file, header, total, places } of this.layout()) {
      const sink = await this.output.resume(file)
      this.sinks.set(file, sink)
      await sink.writeAt(0, header)
      const end = places.reduce((last, p) => Math.max(last, p.at + p.bytes), header.length)
      if (total > end) await sink.writeAt(end, new Uint8Array(total - end))
      for (const place of places) this.places.set(place.name, place)
      this.total += total
    }
  }

  place(tensor: OutputTensor, bytes: number): Place {
    const place = this.places.get(tensor.name)
    if (place && place.bytes === bytes && place.dtype === tensor.dtype) return place
    throw new BugError(
      `Tensor "${tensor.name}" came out as ${tensor.dtype}, ${bytes} bytes, planned was another size`,
      {
        tensor: tensor.name,
        expected: place,
        actual: bytes,
      },
    )
  }

  async write(place: Place, offset: number, bytes: Uint8Array): Promise<void> {
    await this.sinks.get(place.file)!.writeAt(place.at + offset, bytes)
  }

  async finish(): Promise<number> {
    await this.close()
    return this.total
  }

  async close(): Promise<void> {
    const sinks = [...this.sinks.values()]
    this.sinks.clear()
    for (const sink of sinks) await sink.close()
  }
}

interface GgufPart {
  readonly file: string
  readonly metadata: GgufMetadata
  readonly tensors: readonly OutputTensor[]
}

/**
 * A GGUF file with its tensors in the order given, data and header padded as "general.alignment" says; several where they do not fit into
 * `maxBytes`.
 */
export class GgufSink extends DirectSink {
  private readonly parts: readonly GgufPart[]
  constructor(
    output: OutputStore,
    file: string,
    metadata: GgufMetadata,
    tensors: readonly OutputTensor[],
    maxBytes = Number.POSITIVE_INFINITY,
  ) {
    super(output)
    const sizes = tensors.map((t) => ggufEntryBytes(asEntry(t)))
    const runs = splitRuns(sizes, maxBytes)
    const stem = file.replace(/\.gguf$/, '')
    this.parts =
      runs.length === 1
        ? [{ file, metadata, tensors }]
        : runs.map(({ from, to }, i) => ({
            file: splitName(stem, i, runs.length),
            metadata: splitMetadata(metadata, i, runs.length, tensors.length),
            tensors: tensors.slice(from, to),
          }))
  }

  /** Names of the files in order; the first opens the model. */
  get files(): readonly string[] {
    return this.parts.map((part) => part.file)
  }

  protected layout() {
    return this.parts.map(({ file, metadata, tensors }) => {
      const { header, offsets, sizes, total } = ggufLayout(metadata, tensors.map(asEntry))
      const places = tensors.map((t, i) => ({ ...t, file, at: offsets[i], bytes: sizes[i] }))
      return { file, header, total, places }
    })
  }
}

function asEntry({ name, dtype, shape }: OutputTensor): GgufEntry {
  return { name, type: dtype, shape }
}

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
  if (index === undefined) return
  const sink = await output.create(INDEX_FILE)
  await sink.write(new TextEncoder().encode(index))
  await sink.close()
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

  override async finish(): Promise<number> {
    await writeIndex(this.output, safetensorsFiles(this.tensors, this.options).index)
    return super.finish()
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
      for (const { file, header, places } of files) {
        const sink = await this.output.create(file)
        await sink.writeAt(0, header)
        for (const { name, at, bytes } of places) {
          const start = from.get(name)!.at
          await conveyor.move({
            bytes,
            read: (first, end, into) => spool.read(start + first, end - first, into),
            write: (first, piece) => sink.writeAt(at + first, piece),
          })
        }
        await sink.close()
      }
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
