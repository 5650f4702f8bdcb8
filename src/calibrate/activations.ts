// Recorded values: in memory up to the budget, beyond it in scratch files.
import type { ScratchFile, ScratchStore } from '../checkpoint/types.ts'
import { BugError } from '../core/errors.ts'
import { aligned } from '../core/half.ts'
import type { Activations } from '../methods/calibration.ts'

/** Memory for recorded values where nothing is said. */
export const DEFAULT_MEMORY_BYTES = 2 * 1024 ** 3

/** Values of one place that are being recorded, batch by batch in order. */
export interface Recording {
  add(values: Float32Array): Promise<void>
  finish(): Activations
}

/** Hands out room for recorded values. */
export class ActivationPool {
  readonly memoryBytes: number
  private free: number
  private readonly scratch: ScratchStore | undefined
  private readonly live = new Set<Activations>()

  /** `scratch` undefined: everything stays in memory, whatever the budget. */
  constructor(memoryBytes: number, scratch: ScratchStore | undefined) {
    this.memoryBytes = memoryBytes
    this.free = memoryBytes
    this.scratch = scratch
  }

  /** Room for `rows` rows of `width` values in all. */
  async record(width: number, rows: number): Promise<Recording> {
    const bytes = 4 * width * rows
    const isFile = bytes > this.free && this.scratch !== undefined
    if (!isFile) this.free -= bytes
    const freed = () => {
      this.live.delete(recording)
      if (!isFile) this.free += bytes
    }
    const recording = isFile
      ? new FileRecording(width, rows, await this.scratch!.create(), freed)
      : new MemoryRecording(width, rows, freed)
    this.live.add(recording)
    return recording
  }

  /** Forgets all values that nobody has released. */
  async dispose(): Promise<void> {
    for (const activations of [...this.live]) await activations.release()
  }
}

class MemoryRecording implements Recording, Activations {
  readonly width: number
  readonly rows: number
  private list: Float32Array[] = []
  private readonly freed: () => void
  private released = false
  constructor(width: number, rows: number, freed: () => void) {
    this.width = width
    this.rows = rows
    this.freed = freed
  }

  get batches(): number {
    return this.list.length
  }

  async add(values: Float32Array): Promise<void> {
    this.list.push(values.slice())
  }

  finish(): Activations {
    return this
  }

  async read(batch: number): Promise<Float32Array> {
    return found(this.list[batch], batch)
  }

  async release(): Promise<void> {
    if (this.released) return
    this.released = true
    this.list = []
    this.freed()
  }
}

class FileRecording implements Recording, Activations {
  readonly width: number
  readonly rows: number
  private readonly file: ScratchFile
  private readonly places: { at: number; bytes: number }[] = []
  private readonly freed: () => void
  private end = 0
  private released = false
  constructor(width: number, rows: number, file: ScratchFile, freed: () => void) {
    this.width = width
    this.rows = rows
    this.file = file
    this.freed = freed
  }

  get batches(): number {
    return this.places.length
  }

  async add(values: Float32Array): Promise<void> {
    await this.file.write(this.end, new Uint8Array(values.buffer, values.byteOffset, values.byteLength))
    this.places.push({ at: this.end, bytes: values.byteLength })
    this.end += values.byteLength
  }

  finish(): Activations {
    return this
  }

  async read(batch: number): Promise<Float32Array> {
    const { at, bytes } = found(this.places[batch], batch)
    return aligned(Float32Array, await this.file.read(at, bytes))
  }

  async release(): Promise<void> {
    if (this.released) return
    this.released = true
    this.freed()
    await this.file.remove()
  }
}

function found<T>(item: T | undefined, batch: number): T {
  if (item === undefined) throw new BugError(`There is no recorded batch ${batch}`, { batch })
  return item
}
