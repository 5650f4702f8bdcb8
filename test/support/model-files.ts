// A fixture model as files in memory, with its tensors and config.json changed as a test wants.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { safetensorsHeader, safetensorsOrder } from '../../src/checkpoint/safetensors.ts'
import type { FileSet } from '../../src/checkpoint/types.ts'
import type { DType, RawTensor } from '../../src/core/dtypes.ts'
import { memoryFiles } from './memory-files.ts'
import { FIXTURES, fixtureTensors } from './tensors.ts'

export interface ModelDraft {
  readonly tensors: Map<string, RawTensor>
  readonly config: Record<string, unknown>
}

/** Bytes of one safetensors file. */
export function safetensorsBytes(tensors: ReadonlyMap<string, RawTensor>): Uint8Array {
  const entries = [...tensors].map(([name, tensor]) => ({ name, ...tensor })).sort(safetensorsOrder)
  const { header, offsets, total } = safetensorsHeader(entries, new Map([['format', 'pt']]))
  const bytes = new Uint8Array(total)
  bytes.set(header)
  for (const [i, { data }] of entries.entries()) bytes.set(data, offsets[i])
  return bytes
}

/** The model of transformers/models/NAME after `edit`. */
export async function draftModel(name: string, edit: (draft: ModelDraft) => void = () => {}): Promise<FileSet> {
  const folder = `transformers/models/${name}`
  const tensors = new Map<string, RawTensor>()
  for (const [key, { dtype, shape, data }] of await fixtureTensors(`${folder}/model.safetensors`))
    tensors.set(key, { dtype: dtype as DType, shape, data })
  const draft = { tensors, config: JSON.parse(await readFile(join(FIXTURES, folder, 'config.json'), 'utf8')) }
  edit(draft)
  return memoryFiles({
    'config.json': JSON.stringify(draft.config),
    'model.safetensors': safetensorsBytes(draft.tensors),
  })
}
