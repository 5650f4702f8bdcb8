// Translates a Hugging Face checkpoint to the names of the family's table at the door, so that nobody behind it meets older
// habits: a missing `model.` prefix, and the three ways in which files hold a tied head.
import type { Checkpoint, StoredTensor } from '../checkpoint/types.ts'

export const EMBEDDING_NAME = 'model.embed_tokens.weight'
export const HEAD_NAME = 'lm_head.weight'
/** Bytes compared at a time where a file holds both sides of a tied pair. */
const COMPARE_BYTES = 4 << 20

/** The same tensors with the prefix `model.` that files of bare decoders lack. */
export function withPrefixes(checkpoint: Checkpoint): Checkpoint {
  const tensors = new Map<string, StoredTensor>()
  for (const tensor of checkpoint.tensors.values()) {
    const name = withPrefix(tensor.name, checkpoint)
    tensors.set(name, name === tensor.name ? tensor : { ...tensor, name })
  }
  return { ...checkpoint, tensors }
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
export async function resolveTie(checkpoint: Checkpoint, isStored: (name: string) => boolean): Promise<Tie> {
  const head = checkpoint.tensors.get(HEAD_NAME)
  const embedding = checkpoint.tensors.get(EMBEDDING_NAME)
  // A method may have quantised, and so untied, a head.
  if (isStored(HEAD_NAME)) return { checkpoint, tied: false }
  if (!head) return { checkpoint, tied: true }
  const tensors = new Map(checkpoint.tensors)
  tensors.delete(HEAD_NAME)
  if (!embedding && !isStored(EMBEDDING_NAME)) {
    tensors.set(EMBEDDING_NAME, { ...head, name: EMBEDDING_NAME })
    return { checkpoint: { ...checkpoint, tensors }, tied: true }
  }
  if (embedding && (await sameBytes(checkpoint, head, embedding)))
    return { checkpoint: { ...checkpoint, tensors }, tied: true }
  const warning = `"tie_word_embeddings" is true, but ${HEAD_NAME} and ${EMBEDDING_NAME} differ: they stay separate`
  return { checkpoint, tied: false, warning }
}

function withPrefix(name: string, checkpoint: Checkpoint): string {
  if (!/^(?:layers\.\d|embed_tokens\.|norm\.)/.test(name)) return name
  const prefixed = `model.${name}`
  return checkpoint.tensors.has(prefixed) ? name : prefixed
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
