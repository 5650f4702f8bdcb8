// Fixture models compiled on a backend.
import { join } from 'node:path'
import { openBackend } from '../../src/backends/index.ts'
import type { Executable } from '../../src/backends/types.ts'
import { localFiles } from '../../src/checkpoint/node/files.ts'
import { openCheckpoint } from '../../src/checkpoint/open.ts'
import { modelSource } from '../../src/models/source.ts'
import { FIXTURES } from './tensors.ts'

/** A model folder, relative to test/fixtures unless absolute, in float32 on the backend `device`. */
export async function compileModel(path: string, device = 'reference'): Promise<Executable> {
  const folder = path.startsWith('/') ? path : join(FIXTURES, path)
  const source = await modelSource(await openCheckpoint(await localFiles(folder)))
  const backend = await openBackend(device)
  const model = await backend.compile(source.graph, source.load, { precision: 'exact', threads: 1 })
  await source.checkpoint.close()
  return model
}
