// The one engine: jobs -> sink, tensor by tensor. The next input is read and the last result written while the current one is computed;
// large tensors go through in slices of rows where their job allows it; what is done is journalled with a checksum, so that a killed run
// goes on where it stopped.
import type { ByteSource, Journal, JournalEntry, OutputStore } from '../checkpoint/types.ts'
import { type DType, rawTensor } from '../core/dtypes.ts'
import { InterruptedError } from '../core/errors.ts'
import type { WorkOptions } from '../core/events.ts'
import type { NamedTensor } from '../methods/types.ts'
import { Conveyor, hold, type Route } from './conveyor.ts'
import { Inputs, slicesOf } from './inputs.ts'
import type { ComputeJob, CopyJob, Job, StoredResults } from './plan.ts'
import type { CheckedPlace, Place, TensorSink } from './sink.ts'

/** Input bytes of a slice: large enough for threads, small beside a model. */
const SLICE_BYTES = 16 * 1024 * 1024
/** Bytes of copied tensors that are told of together: a line of the journal for each would cost as much as the copy of a small one. */
const COPIED_BYTES = 16 * 1024 * 1024

export interface ConvertResult {
  /** Bytes of the files that hold the tensors. */
  readonly sizeBytes: number
  /** Bytes of the tensors themselves. */
  readonly tensorBytes: number
  /** Jobs taken from an interrupted run. */
  readonly resumed: number
}

export interface ConvertOptions extends WorkOptions {
  /** What progress is called. */
  readonly name: string
  /** Identifies source, config and version: see workKey. */
  readonly key: string
  /** Input bytes of a slice, where a job can be sliced. */
  readonly sliceBytes?: number
  /** Runs before the first job, which may need what others have given. */
  begin?(results: StoredResults): void
  /** Runs after the tensors and before the output appears: config.json and other files. */
  finish?(): Promise<void>
}

/** Hash of everything that decides the result, as the key of a journal. */
export async function workKey(parts: unknown): Promise<string> {
  const bytes = new TextEncoder().encode(JSON.stringify(parts))
  const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))
  return Array.from(hash, (b) => b.toString(16).padStart(2, '0')).join('')
}

/** Runs all jobs into `sink` and commits `output`. Throws InterruptedError on `signal`, keeping what is done. */
export async function convert(
  jobs: readonly Job[],
  sink: TensorSink,
  output: OutputStore,
  options: ConvertOptions,
): Promise<ConvertResult> {
  const journal = await output.journal(options.key)
  const run = new Run(jobs, sink, output, journal, options)
  try {
    if (journal.discarded)
      options.onEvent?.({
        event: 'warning',
        message: `"${output.partial}" held partial data of other work: starting anew`,
      })
    return await run.all()
  } catch (e) {
    await sink.close().catch(() => undefined) // the first error is the one to report
    await output.release()
    if (e === options.signal?.reason) run.checkSignal() // thrown deep inside a job: the engine knows how to go on
    throw e
  }
}

interface Finished {
  readonly job: string
  readonly places: readonly CheckedPlace[]
}

/** What a job became; `written` ends when its bytes are in the file. */
interface Made {
  readonly places: readonly CheckedPlace[]
  readonly written?: Promise<unknown>
}

class Run {
  private readonly jobs: readonly Job[]
  private readonly sink: TensorSink
  private readonly output: OutputStore
  private readonly journal: Journal
  private readonly options: ConvertOptions
  private readonly total: number
  private readonly sliceBytes: number
  private readonly conveyor = new Conveyor()
  private inputs: Inputs | undefined
  private done = 0

  constructor(jobs: readonly Job[], sink: TensorSink, output: OutputStore, journal: Journal, options: ConvertOptions) {
    this.jobs = jobs
    this.sink = sink
    this.output = output
    this.journal = journal
    this.options = options
    this.sliceBytes = options.sliceBytes ?? SLICE_BYTES
    this.total = jobs.reduce((sum, job) => sum + job.inputBytes, 0)
  }

  async all(): Promise<ConvertResult> {
    const finished = await this.resumable()
    const places = [...finished.values()].flatMap((f) => f.places)
    await this.sink.open(places)
    this.options.begin?.({ read: (job) => this.readBack(finished.get(job)) })
    const left = this.jobs.filter((job) => !finished.has(job.name))
    for (const job of this.jobs) if (finished.has(job.name)) this.done += job.inputBytes
    const resumed = this.jobs.length - left.length
    if (resumed > 0) this.options.onEvent?.({ event: 'step', name: 'resume', done: resumed, total: this.jobs.length })
    places.push(...(await this.runAll(left, finished)))
    this.checkSignal()
    const sizeBytes = await this.sink.finish(places)
    await this.options.finish?.()
    await this.output.commit()
    return { sizeBytes, tensorBytes: places.reduce((sum, p) => sum + p.bytes, 0), resumed }
  }

  /** Runs the jobs that are left, and adds each to `finished` when its bytes are written. */
  private async runAll(left: readonly Job[], finished: Map<string, Finished>): Promise<CheckedPlace[]> {
    const all: CheckedPlace[] = []
    let last: Promise<void> = Promise.resolve()
    try {
      this.inputs = new Inputs(left, this.sliceBytes)
      for (const job of inRuns(left)) {
        this.checkSignal()
        if (Array.isArray(job)) {
          all.push(...(await this.copy(job, finished)))
          continue
        }
        if (job.action === 'calibrate') await last // it may read back what the others have given
        const { places, written } = await (job.action === 'calibrate'
          ? job.run().then((t) => this.write(t))
          : this.compute(job))
        await last
        last = hold(this.finishJob({ job: job.name, places }, written, finished))
        all.push(...places)
        this.done += job.inputBytes
        this.progress(job.name, this.done)
      }
      await last
      return all
    } finally {
      await Promise.allSettled([last])
    }
  }

  private async finishJob(
    job: Finished,
    written: Promise<unknown> | undefined,
    finished: Map<string, Finished>,
  ): Promise<void> {
    await written
    await this.journal.append({ ...job })
    finished.set(job.job, job)
  }

  private progress(tensor: string, done: number): void {
    this.options.onEvent?.({
      event: 'progress',
      name: this.options.name,
      done,
      total: this.total,
      unit: 'bytes',
      tensor,
    })
  }

  /** Throws InterruptedError, which says how to go on, where the signal is aborted. */
  checkSignal(): void {
    if (!this.options.signal?.aborted) return
    throw new InterruptedError(`Interrupted while writing "${this.output.name}"`, {
      file: this.output.name,
      done: this.done,
      total: this.total,
      hint: `type the same command again to go on; delete "${this.output.partial}" to give up`,
    })
  }

  /** Copies one tensor after another without a pause between them. */
  private async copy(jobs: readonly CopyJob[], finished: Map<string, Finished>): Promise<CheckedPlace[]> {
    const places: CheckedPlace[] = []
    let waiting: Finished[] = []
    let waitingBytes = 0
    const note = async (job: CopyJob) => {
      const noted = waiting
      waiting = []
      waitingBytes = 0
      this.progress(job.name, this.done)
      await Promise.all(noted.map((one) => this.finishJob(one, undefined, finished)))
    }
    const route = (job: CopyJob): Route => {
      const place = this.sink.place(job.output, job.inputBytes)
      let crc = 0
      return {
        bytes: job.inputBytes,
        read: job.read,
        write: (at, piece) => this.sink.write(place, at, piece),
        look: (piece) => {
          this.checkSignal()
          crc = this.output.checksum(piece, crc)
        },
        done: async () => {
          const checked = { ...place, crc }
          places.push(checked)
          this.done += job.inputBytes
          waiting.push({ job: job.name, places: [checked] })
          waitingBytes += job.inputBytes
          if (waitingBytes >= COPIED_BYTES || places.length === jobs.length) await note(job)
        },
      }
    }
    await this.conveyor.move(jobs.map(route))
    return places
  }

  private async compute(job: ComputeJob): Promise<Made> {
    const slices = slicesOf(job, this.sliceBytes)
    if (slices.length > 1) return this.computeSliced(job, slices)
    return this.write(await job.run(await this.inputs!.take(), 0))
  }

  private write(tensors: readonly NamedTensor[]): Made {
    const made = tensors.map(({ name, tensor }) => {
      const place = this.sink.place({ name, dtype: tensor.dtype, shape: tensor.shape }, tensor.data.byteLength)
      const written = hold(this.sink.write(place, 0, tensor.data))
      return { place: { ...place, crc: this.output.checksum(tensor.data) }, written }
    })
    return { places: made.map((m) => m.place), written: hold(Promise.all(made.map((m) => m.written))) }
  }

  private async computeSliced(job: ComputeJob, slices: readonly (readonly [number, number])[]): Promise<Made> {
    const made = job.outputs!.map((o) => ({ place: undefined as Place | undefined, output: o, at: 0, crc: 0 }))
    let written: Promise<unknown> = Promise.resolve()
    for (const [i, [from]] of slices.entries()) {
      this.checkSignal()
      const input = await this.inputs!.take()
      const writes: Promise<void>[] = []
      for (const [k, { tensor }] of (await job.run(input, from)).entries()) {
        const { data } = tensor
        const target = made[k]
        target.place ??= this.sink.place(target.output, (data.byteLength / (slices[i][1] - from)) * job.slice!.rows)
        writes.push(hold(this.sink.write(target.place, target.at, data)))
        target.crc = this.output.checksum(data, target.crc)
        target.at += data.byteLength
      }
      await written
      written = hold(Promise.all(writes))
      this.progress(job.name, this.done + Math.floor((job.inputBytes * (i + 1)) / slices.length))
    }
    return { places: made.map(({ place, crc }) => ({ ...place!, crc })), written }
  }

  /** Jobs of the interrupted run whose bytes are there and have their checksum. */
  private async resumable(): Promise<Map<string, Finished>> {
    const names = new Set(this.jobs.map((job) => job.name))
    const ofJob = new Map<string, Finished>() // the last of each: a damaged one was made again
    for (const entry of this.journal.entries) {
      const candidate = asFinished(entry)
      if (candidate && names.has(candidate.job)) ofJob.set(candidate.job, candidate)
    }
    const damaged = new Set<string>()
    const sources = new Map<string, ByteSource | undefined>()
    const sourceOf = async (file: string): Promise<ByteSource | undefined> => {
      // Absent: the jobs run again.
      if (!sources.has(file)) sources.set(file, await this.output.reopen(file).catch(() => undefined))
      return sources.get(file)
    }
    const routes: Route[] = []
    try {
      for (const { job, places } of ofJob.values())
        for (const place of places) {
          const source = await sourceOf(place.file)
          if (source && place.at + place.bytes <= source.size)
            routes.push(this.check(place, source, () => damaged.add(job)))
          else damaged.add(job)
        }
      await this.conveyor.move(routes)
    } finally {
      for (const source of sources.values()) await source?.close()
    }
    for (const job of damaged) ofJob.delete(job)
    return ofJob
  }

  /** Calls `fail` where the bytes have another checksum. */
  private check({ at, bytes, crc }: CheckedPlace, source: ByteSource, fail: () => void): Route {
    let found = 0
    return {
      bytes,
      read: (from, to, into) => source.read(at + from, to - from, into),
      look: (piece) => {
        found = this.output.checksum(piece, found)
      },
      done: () => {
        if (found !== crc) fail()
      },
    }
  }

  private async readBack(finished: Finished | undefined): Promise<NamedTensor[] | undefined> {
    if (!finished) return undefined
    const tensors: NamedTensor[] = []
    for (const { name, dtype, shape, file, at, bytes } of finished.places) {
      const source = await this.output.reopen(file)
      try {
        // A job's results are tensors in memory, so the container's spelling is a DType.
        tensors.push({ name, tensor: rawTensor(dtype as DType, shape, await source.read(at, bytes)) })
      } finally {
        await source.close()
      }
    }
    return tensors
  }
}

/** The jobs in order, copies that follow one another together. */
function inRuns(jobs: readonly Job[]): (Exclude<Job, CopyJob> | CopyJob[])[] {
  const runs: (Exclude<Job, CopyJob> | CopyJob[])[] = []
  for (const job of jobs) {
    const last = runs.at(-1)
    if (job.action !== 'copy') runs.push(job)
    else if (Array.isArray(last)) last.push(job)
    else runs.push([job])
  }
  return runs
}

function asFinished(entry: JournalEntry): Finished | undefined {
  return typeof entry.job === 'string' && Array.isArray(entry.places) ? (entry as unknown as Finished) : undefined
}
