// A GGUF view written to memory and read again.
import type { GgufMetadata } from '../../src/checkpoint/gguf/metadata.ts'
import { ggufLayout } from '../../src/checkpoint/gguf/writer.ts'
import { openCheckpoint } from '../../src/checkpoint/open.ts'
import type { Checkpoint } from '../../src/checkpoint/types.ts'
import { readTensor } from '../../src/models/source.ts'
import { memoryFiles } from './memory-files.ts'

/** A written file in memory, read again. */
export async function inMemory(view: Checkpoint): Promise<Checkpoint> {
  const entries = [...view.tensors.values()].map((t) => ({ name: t.name, type: t.dtype, shape: t.shape }))
  const { header, offsets, total } = ggufLayout(view.metadata as GgufMetadata, entries)
  const bytes = new Uint8Array(total)
  bytes.set(header)
  for (const [i, { name }] of entries.entries()) bytes.set((await readTensor(view, name)).data, offsets[i])
  return openCheckpoint(memoryFiles({ 'model.gguf': bytes }, 'model.gguf'))
}
