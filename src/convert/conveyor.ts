// Moves bytes in pieces: reading, a look at each piece and writing overlap, in buffers that are used again, for fresh memory costs more
// than the copy.

/** Bytes of a piece: large beside a system call, small beside the processor's cache. */
const PIECE_BYTES = 1024 * 1024
/** Pieces on their way at once. */
const LANES = 4

export interface Route {
  readonly bytes: number
  /** The bytes [from, to); `into` may be used for them, and is theirs until they are written. */
  read(from: number, to: number, into: Uint8Array): Promise<Uint8Array>
  /** Absent: the bytes are only looked at. */
  write?(at: number, piece: Uint8Array): Promise<void>
  /** Sees every piece in order. */
  look?(piece: Uint8Array): void
}

/** One transfer at a time. */
export class Conveyor {
  private readonly buffers: Uint8Array[] = []

  /** Resolves when all is written, throws the first failure when nothing is under way any more. */
  async move({ bytes, read, write, look }: Route): Promise<void> {
    const count = Math.ceil(bytes / PIECE_BYTES)
    const reads: Promise<Uint8Array>[] = []
    const writes: Promise<void>[] = []
    const start = async (i: number) => {
      const lane = i % LANES
      await writes[lane] // of the piece that had this buffer before
      const from = i * PIECE_BYTES
      this.buffers[lane] ??= new Uint8Array(PIECE_BYTES)
      return read(from, Math.min(bytes, from + PIECE_BYTES), this.buffers[lane])
    }
    try {
      for (let i = 0; i < Math.min(LANES - 1, count); i++) reads[i] = hold(start(i))
      for (let i = 0; i < count; i++) {
        const piece = await reads[i % LANES]
        const ahead = i + LANES - 1
        if (ahead < count) reads[ahead % LANES] = hold(start(ahead))
        look?.(piece)
        if (write) writes[i % LANES] = hold(write(i * PIECE_BYTES, piece))
      }
      await Promise.all(writes)
    } finally {
      await Promise.allSettled([...reads, ...writes])
    }
  }
}

/** A promise whose failure is reported where it is awaited, not before. */
export function hold<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => undefined)
  return promise
}
