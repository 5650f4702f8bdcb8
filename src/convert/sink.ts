// Where the engine puts tensors. A sink remembers nothing between runs: the journal says where each tensor's bytes are.
import type { ByteSink, OutputStore } from '../checkpoint/types.ts'
import { BugError } from '../core/errors.ts'
import type { OutputTensor } from './plan.ts'

/** Where a tensor's bytes lie: file of the output store, offset and length. */
export interface Place extends OutputTensor {
  readonly file: string
  readonly at: number
  readonly bytes: number
}

/** A place whose bytes are there. */
export interface CheckedPlace extends Place {
  /** CRC-32 of them. */
  readonly crc: number
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
  finish(all: readonly CheckedPlace[]): Promise<number>
  /** Closes what is open after a failure; the bytes stay. */
  close(): Promise<void>
}

/** Files whose layout is known: header first, then tensors at fixed places. */
export abstract class DirectSink implements TensorSink {
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

  /** Writes what the layout could not say beforehand. */
  protected async complete(_all: readonly CheckedPlace[], _sinkOf: (file: string) => ByteSink): Promise<void> {}

  async finish(all: readonly CheckedPlace[]): Promise<number> {
    await this.complete(all, (file) => this.sinks.get(file)!)
    await this.close()
    return this.total
  }

  async close(): Promise<void> {
    const sinks = [...this.sinks.values()]
    this.sinks.clear()
    for (const sink of sinks) await sink.close()
  }
}
