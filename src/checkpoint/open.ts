// Opens a model's files as one Checkpoint: finds the container by name, and by the first bytes where the name says nothing.
import { FileError } from '../core/errors.ts'
import { ggufIn, openGguf } from './gguf/open.ts'
import { looksLikeTorch } from './pickle/archive.ts'
import { HQQ_FILE, openTorch, TORCH_FILE, TORCH_INDEX } from './pickle/torch.ts'
import { openSafetensorsFile, openSafetensorsIndex } from './safetensors-folder.ts'
import { INDEX_FILE, SINGLE_FILE } from './shards.ts'
import type { Checkpoint, FileSet } from './types.ts'

export { readText } from './text-file.ts'

/** Opens a folder in Hugging Face form, a folder with one GGUF model, a .gguf or a .safetensors file. Throws FileError. */
export async function openCheckpoint(files: FileSet): Promise<Checkpoint> {
  if (files.single !== undefined) return openSingle(files, files.single)
  if (await files.has(SINGLE_FILE)) return openSafetensorsFile(files, SINGLE_FILE)
  if (await files.has(INDEX_FILE)) return openSafetensorsIndex(files)
  for (const name of [TORCH_INDEX, TORCH_FILE, HQQ_FILE]) if (await files.has(name)) return openTorch(files, name)
  const list = await files.list()
  const gguf = ggufIn(files.name, list)
  if (gguf !== undefined) return openGguf(files, gguf)
  const torch = list.filter((name) => name.endsWith('.pt'))
  if (torch.length === 1) return openTorch(files, torch[0])
  throw nothingToOpen(files.name, list)
}

async function openSingle(files: FileSet, name: string): Promise<Checkpoint> {
  if (name === INDEX_FILE) return openSafetensorsIndex(files)
  if (name.endsWith('.gguf')) return openGguf(files, name)
  if (name.endsWith('.safetensors')) return openSafetensorsFile(files, name)
  const source = await files.open(name)
  const head = await source.read(0, Math.min(9, source.size)).finally(() => source.close())
  if (head[0] === 0x47 && head[1] === 0x47 && head[2] === 0x55 && head[3] === 0x46) return openGguf(files, name)
  if (looksLikeTorch(head)) return openTorch(files, name)
  if (head[8] === 0x7b) return openSafetensorsFile(files, name)
  throw new FileError(`Cannot open "${files.name}": it is neither safetensors nor GGUF nor a file of torch.save`, {
    file: name,
    actual: [...head].map((byte) => byte.toString(16).padStart(2, '0')).join(' '),
    hint: 'name a model folder (config.json and model.safetensors), a .gguf or a .safetensors file',
  })
}

function nothingToOpen(folder: string, list: readonly string[]): FileError {
  const other = list.find((name) => name.endsWith('.safetensors'))
  const hint = list.includes('adapter_config.json')
    ? 'it is an adapter: name the model that it belongs to'
    : other
      ? `it holds "${other}": name that file, or rename it to ${SINGLE_FILE}`
      : `a model folder holds config.json and ${SINGLE_FILE}`
  return new FileError(`Cannot open "${folder}": it holds no ${SINGLE_FILE}, no ${INDEX_FILE} and no .gguf file`, {
    file: folder,
    found: list.slice(0, 20),
    hint,
  })
}
