// Moves bytes in pieces: reading, a look at each piece and writing overlap, from one tensor to the next too, in buffers that are used again,
// for fresh memory costs more than the copy.

/** Bytes of a piece: large beside what it costs to hand it to a thread, small beside the processor's cache. */
const PIECE_BYTES = 2 * 1024 * 1024
/** Pieces on their way at once. */
const LANES = 4

/** Bytes that belong together, such as a tensor's. */
export interface Route {
  readonly bytes: number
  /** The bytes [from, to); `into` may be used for them, and is theirs until they are written. */
  read(from: number, to: number, into: Uint8Array): Promise<Uint8Array>
  /** Absent: the bytes are only looked at. */
  write?(at: number, piece: Uint8Array): Promise<void>
  /** Sees every piece in order. */
  look?(piece: Uint8Array): void
  /** All bytes are written. */
  done?(): void | Promise<void>
}

interface Piece {
  readonly route: Route
  readonly from: number
  readonly to: number
  /** Pieces of the route that are not written yet. */
  readonly left: { count: number }
}

/** One `move` at a time. */
export class Conveyor {
  private readonly buffers: Uint8Array[] = []

  /** Resolves when all is written, throws the first failure when nothing is under way any more. */
  async move(routes: Iterable<Route>): Promise<void> {
    const pieces = piecesOf(routes)
    const reading: { piece: Piece; lane: number; bytes: Promise<Uint8Array> }[] = []
    const written: (Promise<void> | undefined)[] = []
    let started = 0
    const readNext = () => {
      const { value: piece } = pieces.next()
      if (!piece) return
      const lane = started++ % LANES
      reading.push({ piece, lane, bytes: hold(this.read(piece, lane, written[lane])) })
    }
    try {
      for (let i = 1; i < LANES; i++) readNext()
      for (let next = reading[0]; next; next = reading[0]) {
        const bytes = await next.bytes
        reading.shift()
        readNext()
        next.piece.route.look?.(bytes)
        written[next.lane] = hold(finish(next.piece, bytes))
      }
      await Promise.all(written)
    } finally {
      await Promise.allSettled([...reading.map(({ bytes }) => bytes), ...written])
    }
  }

  /** `before`: what the buffer held until now is written. */
  private async read({ route, from, to }: Piece, lane: number, before: Promise<void> | undefined): Promise<Uint8Array> {
    await before
    this.buffers[lane] ??= new Uint8Array(PIECE_BYTES)
    return route.read(from, to, this.buffers[lane])
  }
}

async function finish({ route, from, left }: Piece, bytes: Uint8Array): Promise<void> {
  await route.write?.(from, bytes)
  if (--left.count === 0) await route.done?.()
}

function* piecesOf(routes: Iterable<Route>): Generator<Piece, undefined> {
  for (const route of routes) {
    const left = { count: Math.max(1, Math.ceil(route.bytes / PIECE_BYTES)) }
    for (let from = 0; from === 0 || from < route.bytes; from += PIECE_BYTES)
      yield { route, from, to: Math.min(route.bytes, from + PIECE_BYTES), left }
  }
  return undefined
}

/** A promise whose failure is reported where it is awaited, not before. */
export function hold<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => undefined)
  return promise
}
