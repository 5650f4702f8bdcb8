// What there is at a path, and the names of what lies beside an output while it is written.
import { open, stat } from 'node:fs/promises'
import { join } from 'node:path'

export async function exists(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined)) !== undefined
}

/** Where what becomes `path` lies until it is complete. */
export const partialOf = (path: string) => `${path}.fewbit-partial`
/** Where a commit moves what it replaces. */
export const oldOf = (path: string) => `${path}.fewbit-old`
/** Lock file of a partial folder. */
export const lockOf = (partial: string) => join(partial, 'lock')

/** Makes renames in a folder durable; a system that cannot sync folders (Windows) has nothing to do. */
export async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, 'r').catch(() => undefined)
  await handle?.sync().catch(() => undefined)
  await handle?.close()
}
