// Threads of the WASM kernels in Node. A worker lives inside fb_worker, asleep between regions; it keeps no process alive.
import { Worker } from 'node:worker_threads'
import type { WorkerTicket } from './wasm.ts'

// The name `exports` is taken where a runtime wraps this text as a CommonJS module (Bun does). Given as text, so that it is found in the source tree, in a bundle and in a bundle of somebody else's alike.
const SOURCE = `
const { workerData: ticket } = require('node:worker_threads')
const { exports: kernels } = new WebAssembly.Instance(ticket.module, { env: { memory: ticket.memory, now: () => performance.now() } })
kernels.__stack_pointer.value = ticket.stackTop
kernels.fb_worker(ticket.args)
`

/** Starts one worker. */
export function startNodeWorker(ticket: WorkerTicket): void {
  new Worker(SOURCE, { eval: true, workerData: ticket, execArgv: [], stdout: false, stderr: false }).unref()
}
