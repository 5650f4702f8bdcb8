// From a model's source to something that runs: the one place where a source, a device and the compiled kernels meet.
import { openBackend, openQuantizers } from '../backends/index.ts'
import type { Executable, Precision } from '../backends/types.ts'
import type { WorkOptions } from '../core/events.ts'
import type { ModelConfig } from '../models/model-config.ts'
import type { ModelSource } from '../models/source.ts'

export interface PrepareOptions extends WorkOptions {
  readonly device: string
  readonly threads: number
  readonly precision: Precision
}

/** Reads, repacks and compiles a model for a device; what the device has to say of itself is a warning. */
export async function prepareModel(source: ModelSource, options: PrepareOptions): Promise<Executable> {
  const { device, threads, precision, onEvent, signal } = options
  const backend = await openBackend(device)
  for (const message of backend.notices ?? []) onEvent?.({ event: 'warning', message })
  const kernels = await openQuantizers(device, { threads, signal })
  return backend.compile(source.graph, (index) => source.load(index, kernels), {
    precision,
    threads,
    signal,
    onParameter: (done, total) => onEvent?.({ event: 'progress', name: 'load', done, total, unit: 'tensors' }),
  })
}

/** longrope: the length from which a shorter cache is computed anew (see Sequences); undefined for every other rope. */
export function recomputeLength({ ropes }: ModelConfig): number | undefined {
  const rope = ropes.find((r) => r?.type === 'longrope')
  return rope?.type === 'longrope' ? rope.originalMaxPositions + 1 : undefined
}
