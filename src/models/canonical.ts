// Translates a Hugging Face checkpoint to the names of the family's table at the door, so that nobody behind it meets older
// habits: a missing `model.` prefix, and the three ways in which files hold a tied head.
import type { Checkpoint, StoredTensor } from '../checkpoint/types.ts'
import { EMBEDDING, HEAD, type ParameterName } from './types.ts'

/** Bytes compared at a time where a file holds both sides of a tied pair. */
const COMPARE_BYTES = 4 << 20

/** The same tensors with the prefix (`model.`, `transformer.`, a part of `model.decoder.`) that files of bare decoders lack. */
export function withPrefixes(checkpoint: Checkpoint, names: readonly ParameterName[]): Checkpoint {
  const completed = prefixing(names)
  const tensors = new Map<string, StoredTensor>()
  for (const tensor of checkpoint.tensors.values()) {
    const prefixed = completed(tensor.name)
    const name = prefixed === undefined || checkpoint.tensors.has(prefixed) ? tensor.name : prefixed
    tensors.set(name, name === tensor.name ? tensor : { ...tensor, name })
  }
  return { ...checkpoint, tensors }
}

/** Completes a name that lacks the front of the prefix, which is the one of the token table; undefined where none is missing. */
function prefixing(names: readonly ParameterName[]): (name: string) => string | undefined {
  const embedding = storedNameOf(names, EMBEDDING)
  const parts = embedding.split('.').slice(0, -2)
  const prefix = [...parts, ''].join('.')
  const inside = names.map((n) => n.huggingFace).filter((name) => name.startsWith(prefix))
  const modules = new Set(inside.map((name) => name.slice(prefix.length).split('.')[0]))
  return (name) => {
    for (let missing = 1; missing <= parts.length; missing++) {
      const present = [...parts.slice(missing), ''].join('.')
      const front = prefix.slice(0, prefix.length - present.length)
      if (name.startsWith(present) && modules.has(name.slice(present.length).split('.')[0])) return front + name
    }
    return undefined
  }
}

/** Name in a model folder of the parameter at `path`. */
function storedNameOf(names: readonly ParameterName[], path: string): string {
  return names.find((n) => n.path === path)!.huggingFace
}

export interface Tie {
  readonly checkpoint: Checkpoint
  /** Whether head and embedding are one parameter, after a look at what the file holds. */
  readonly tied: boolean
  readonly warning?: string
}

/**
 * What a config.json with `tie_word_embeddings` means for this file: one side of the pair serves both, two equal ones are one,
 * two different ones stay separate. `isStored` tells whether a method stores that weight in parts of its own.
 */
export async function resolveTie(
  checkpoint: Checkpoint,
  names: readonly ParameterName[],
  isStored: (name: string) => boolean,
): Promise<Tie> {
  const [headName, embeddingName] = [storedNameOf(names, `${HEAD}.weight`), storedNameOf(names, EMBEDDING)]
  const head = checkpoint.tensors.get(headName)
  const embedding = checkpoint.tensors.get(embeddingName)
  // A method may have quantised, and so untied, a head.
  if (isStored(headName)) return { checkpoint, tied: false }
  if (!head) return { checkpoint, tied: true }
  const tensors = new Map(checkpoint.tensors)
  tensors.delete(headName)
  if (!embedding && !isStored(embeddingName)) {
    tensors.set(embeddingName, { ...head, name: embeddingName })
    return { checkpoint: { ...checkpoint, tensors }, tied: true }
  }
  if (embedding && (await sameBytes(checkpoint, head, embedding)))
    return { checkpoint: { ...checkpoint, tensors }, tied: true }
  const warning = `"tie_word_embeddings" is true, but ${headName} and ${embeddingName} differ: they stay separate`
  return { checkpoint, tied: false, warning }
}

async function sameBytes(checkpoint: Checkpoint, a: StoredTensor, b: StoredTensor): Promise<boolean> {
  if (a.dtype !== b.dtype || String(a.shape) !== String(b.shape)) return false
  for (let from = 0; from < a.byteLength; from += COMPARE_BYTES) {
    const to = Math.min(from + COMPARE_BYTES, a.byteLength)
    const [left, right] = [await checkpoint.read(a, from, to), await checkpoint.read(b, from, to)]
    if (left.some((byte, i) => byte !== right[i])) return false
  }
  return true
}
