// The WASM door. The module imports a shared memory that grows to 4 GiB; workers are the host's business (workers-node.ts).
import { BugError } from '../../core/errors.ts'
import { checkSources, complete, type Door, type Kernel } from './door.ts'

/** What a worker needs to join: it instantiates the module on the same memory, with a stack of its own, and calls fb_worker. */
export interface WorkerTicket {
  readonly module: WebAssembly.Module
  readonly memory: WebAssembly.Memory
  /** One past the last byte of its stack. */
  readonly stackTop: number
  /** Pointer to the arguments of fb_worker. */
  readonly args: number
}

export interface WasmOptions {
  readonly origin: string
  /** Starts a worker; absent where there are none: one thread then. */
  readonly startWorker?: (ticket: WorkerTicket) => void
}

const STACK_BYTES = 256 * 1024
const INITIAL_PAGES = 32
const MAXIMUM_PAGES = 65536

type Exports = Record<string, unknown> & {
  fb_arguments(): number
  fb_offer_workers(args: number): number
}

/** Opens the kernels in `bytes`, a WASM binary built by native/wasm/build.sh. Throws FileError where they are of other sources. */
export async function openWasm(bytes: ArrayBufferView, options: WasmOptions): Promise<Door> {
  const module = await WebAssembly.compile(bytes)
  const memory = new WebAssembly.Memory({ initial: INITIAL_PAGES, maximum: MAXIMUM_PAGES, shared: true })
  const instance = await WebAssembly.instantiate(module, { env: { memory, now: () => performance.now() } })
  return new WasmDoor(module, memory, instance.exports as Exports, options)
}

class WasmDoor implements Door {
  readonly kind = 'wasm'
  readonly origin: string
  readonly kernels: Readonly<Record<string, Kernel>>
  private readonly module: WebAssembly.Module
  private readonly memory: WebAssembly.Memory
  private readonly startWorker: WasmOptions['startWorker']
  private readonly argumentsAt: number
  private bytes: Uint8Array
  private arguments: Float64Array
  private workers = 0

  constructor(module: WebAssembly.Module, memory: WebAssembly.Memory, exports: Exports, options: WasmOptions) {
    this.module = module
    this.memory = memory
    this.origin = options.origin
    this.startWorker = options.startWorker
    this.argumentsAt = exports.fb_arguments()
    this.bytes = new Uint8Array(memory.buffer)
    this.arguments = new Float64Array(memory.buffer, this.argumentsAt, 64)
    const kernels: Record<string, Kernel> = {}
    for (const name of Object.keys(exports)) {
      const run = exports[name]
      if (typeof run === 'function') kernels[name] = this.kernel(run as (args: number) => number)
    }
    checkSources(kernels, options.origin)
    this.kernels = complete(kernels, options.origin)
  }

  private kernel(run: (args: number) => number): Kernel {
    return (...args) => {
      if (args.length > 64) throw new BugError('A kernel takes at most 64 numbers')
      for (let i = 0; i < args.length; i++) this.arguments[i] = args[i]
      return run(this.argumentsAt)
    }
  }

  /** A view of the whole memory, made anew after it has grown. */
  private view(): Uint8Array {
    if (this.bytes.buffer !== this.memory.buffer) this.bytes = new Uint8Array(this.memory.buffer)
    return this.bytes
  }

  write(pointer: number, data: ArrayBufferView): void {
    this.view().set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), pointer)
  }

  read(pointer: number, into: ArrayBufferView): void {
    const target = new Uint8Array(into.buffer, into.byteOffset, into.byteLength)
    target.set(this.view().subarray(pointer, pointer + target.length))
  }

  setThreads(count: number): number {
    if (this.startWorker) {
      while (this.workers < count - 1) this.addWorker(this.startWorker)
    }
    this.kernels.fb_offer_workers(this.workers)
    return this.kernels.fb_set_threads(count)
  }

  private addWorker(start: (ticket: WorkerTicket) => void): void {
    this.workers++
    const block = this.kernels.fb_alloc(STACK_BYTES + 64)
    const args = block + STACK_BYTES
    this.write(args, Float64Array.of(this.workers))
    start({ module: this.module, memory: this.memory, stackTop: args, args })
  }
}
