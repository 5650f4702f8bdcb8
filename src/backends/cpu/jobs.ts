// Runs kernels of the export table over their units, shared by the pool, in slices that let the event loop run.
import { breathe, SLICE_MS } from '../../core/breathe.ts'
import { BugError } from '../../core/errors.ts'
import { allocate, allocateFrom, type Door, missingKernel, places } from './door.ts'

const KIND_UNITS = 1
const KIND_STEPS = 2

/** Blocks of C++ memory that are given back together. */
export class Blocks {
  private readonly door: Door
  private readonly pointers: number[] = []

  constructor(door: Door) {
    this.door = door
  }

  /** A new block, not cleared. */
  take(bytes: number): number {
    return this.keep(allocate(this.door, bytes))
  }

  /** A new block with the bytes of `data`. */
  takeFrom(data: ArrayBufferView): number {
    return this.keep(allocateFrom(this.door, data))
  }

  keep(pointer: number): number {
    this.pointers.push(pointer)
    return pointer
  }

  free(): void {
    for (const pointer of this.pointers) this.door.kernels.fb_free(pointer)
    this.pointers.length = 0
  }
}

export class Jobs {
  readonly door: Door
  private readonly table: ReadonlyMap<string, number>
  private readonly signal: AbortSignal | undefined

  constructor(door: Door, signal?: AbortSignal) {
    this.door = door
    this.table = places(door)
    this.signal = signal
  }

  private place(kernel: string): number {
    return this.table.get(kernel) ?? missingKernel(this.door.origin, kernel)
  }

  /** Runs `kernel` with `args` = inputs, outputs, params; `units` is the first of the params. */
  async run(kernel: string, units: number, args: readonly number[]): Promise<void> {
    const place = this.place(kernel)
    const kind = this.door.kernels.fb_job_kind(place)
    if (kind !== KIND_UNITS && kind !== KIND_STEPS)
      throw new BugError(`"${kernel}" is not a kernel of units or steps`, { kernel })
    const block = allocateFrom(this.door, Float64Array.from(args))
    try {
      if (kind === KIND_UNITS)
        await sliced(units, this.signal, (from, to) => this.door.kernels.fb_job(place, from, to, args.length, block))
      else await this.steps(place, args.length, block)
    } finally {
      this.door.kernels.fb_free(block)
    }
  }

  /** Runs all units of `kernel` at once; for short jobs. */
  runNow(kernel: string, units: number, args: readonly number[]): void {
    const block = allocateFrom(this.door, Float64Array.from(args))
    this.door.kernels.fb_job(this.place(kernel), 0, units, args.length, block)
    this.door.kernels.fb_free(block)
  }

  private async steps(place: number, count: number, args: number): Promise<void> {
    let breathed = performance.now()
    for (let step = 0; this.door.kernels.fb_job(place, step, 0, count, args) !== 0; step++) {
      if (performance.now() - breathed < SLICE_MS) continue
      await breathe()
      this.signal?.throwIfAborted()
      breathed = performance.now()
    }
  }
}

/** Calls run(from, to) for [0, units) in slices of about SLICE_MS. */
export async function sliced(
  units: number,
  signal: AbortSignal | undefined,
  run: (from: number, to: number) => void,
): Promise<void> {
  let slice = Math.max(64, Math.ceil(units / 1024))
  for (let from = 0; from < units; ) {
    const to = Math.min(units, from + slice)
    const start = performance.now()
    run(from, to)
    const elapsed = Math.max(performance.now() - start, 0.01)
    slice = Math.max(1, Math.ceil((to - from) * Math.min(16, SLICE_MS / elapsed)))
    from = to
    if (from < units && elapsed > SLICE_MS / 4) await breathe()
    signal?.throwIfAborted()
  }
}
