// What this machine is, in words: reported beside every measured figure.
import { availableParallelism, cpus, totalmem } from 'node:os'
import { counted } from '../core/counted.ts'

/** `AMD EPYC, 2 threads, 24 GiB, linux x64, Node 20.20.2`. */
export function machineName(): string {
  const model = (cpus()[0]?.model ?? 'unknown processor').replace(/\s+/g, ' ').trim()
  const runtime = process.versions.bun
    ? `Bun ${process.versions.bun}`
    : process.versions.deno
      ? `Deno ${process.versions.deno}`
      : `Node ${process.versions.node}`
  return `${model}, ${counted(availableParallelism(), 'thread')}, ${Math.round(totalmem() / 2 ** 30)} GiB, ${process.platform} ${process.arch}, ${runtime}`
}
