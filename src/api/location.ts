// Where a model lies: a path on a disk, or files that a browser (or a test) holds. What only Node can do is loaded when it is asked for,
// so that this folder runs anywhere.
import { parseHubModel } from '../checkpoint/hub-files.ts'
import type { ByteSource, FileSet, OutputStore } from '../checkpoint/types.ts'
import type { WorkOptions } from '../core/events.ts'

/**
 * A path (a folder in Hugging Face form or a .gguf file), a model of the hub (`owner/name` where no such path is there, `hub:owner/name`,
 * `owner/name@revision`, `owner/name:q4_k_m` for one of several GGUF files), or the files themselves.
 */
export type ModelLocation = string | FileSet

export async function filesAt(location: ModelLocation, options: WorkOptions = {}): Promise<FileSet> {
  if (typeof location !== 'string') return location
  const { localFiles } = await import('../checkpoint/node/files.ts')
  const { exists } = await import('../checkpoint/node/paths.ts')
  const model = parseHubModel(location)
  if (!model || (!location.startsWith('hub:') && (await exists(location)))) return localFiles(location)
  const { hubSnapshot } = await import('../checkpoint/node/hub.ts')
  return { ...(await localFiles(await hubSnapshot(model, options))), name: location }
}

/** Opens one file by path: what a config names, such as an importance matrix. */
export async function openPath(path: string): Promise<ByteSource> {
  return (await import('../checkpoint/node/files.ts')).openFile(path)
}

/** Where `savePretrained` writes: a path, or an OutputStore of one's own. */
export type OutputLocation = string | OutputStore

/** Whether an output of that container is one file, not a folder: its path says so. */
export function isFilePath(path: string, container: 'safetensors' | 'gguf'): boolean {
  return path.endsWith(container === 'gguf' ? '.gguf' : '.pt')
}

export async function outputAt(
  location: OutputLocation,
  force: boolean,
  container: 'safetensors' | 'gguf',
): Promise<OutputStore> {
  if (typeof location !== 'string') return location
  const { outputStore } = await import('../checkpoint/node/output.ts')
  return outputStore(location, { force, single: isFilePath(location, container) })
}

/** More threads than this never paid off on one model. */
const MAX_THREADS = 16

/** What this process may use: affinity in Node, logical cores in a browser. */
export function defaultThreads(): number {
  const browser = globalThis as { navigator?: { hardwareConcurrency?: number } }
  const os = globalThis.process?.getBuiltinModule?.('os')
  const count = os?.availableParallelism() ?? browser.navigator?.hardwareConcurrency ?? 1
  return Math.min(count, MAX_THREADS)
}
