// Models in several files, as llama-gguf-split makes them: which tensor goes to which file, how the files are called, what each says of
// the whole.
import { type GgufMetadata, type GgufValue, ggufI32, ggufU16 } from './metadata.ts'

/** `NAME-00001-of-00003.gguf`: the name, the number, the count. */
export const SPLIT_NAME = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/

/** Data begins at multiples of it, and a tensor counts with its padding. */
const ALIGNMENT = 32

const digits = (n: number) => String(n).padStart(5, '0')

/** Name of file `index` (from 0) of `count`. */
export function splitName(stem: string, index: number, count: number): string {
  return `${stem}-${digits(index + 1)}-of-${digits(count)}.gguf`
}

/** Runs of tensors whose data fits into `maxBytes`; a larger tensor has a file alone. `sizes`: bytes of each, in order. */
export function splitRuns(
  sizes: readonly number[],
  maxBytes: number,
): { readonly from: number; readonly to: number }[] {
  const runs: { from: number; to: number }[] = []
  let from = 0
  let bytes = 0
  for (const [i, size] of sizes.entries()) {
    const padded = Math.ceil(size / ALIGNMENT) * ALIGNMENT
    if (bytes + padded > maxBytes && i > from) {
      runs.push({ from, to: i })
      from = i
      bytes = 0
    }
    bytes += padded
  }
  runs.push({ from, to: sizes.length })
  return runs
}

/** Key-values of file `index`: the first has all of the model's, each says what it is a part of. */
export function splitMetadata(metadata: GgufMetadata, index: number, count: number, tensors: number): GgufMetadata {
  const own: [string, GgufValue][] = [
    ['split.no', ggufU16(index)],
    ['split.tensors.count', ggufI32(tensors)],
    ['split.count', ggufU16(count)],
  ]
  return new Map([...withoutSplit(index === 0 ? metadata : new Map()), ...own])
}

/** The key-values of the model, whether or not it lies in several files. */
export function withoutSplit(metadata: GgufMetadata): GgufMetadata {
  return new Map([...metadata].filter(([key]) => !key.startsWith('split.')))
}
