// GGUF files as a sink.
import type { GgufMetadata } from '../checkpoint/gguf/metadata.ts'
import { splitMetadata, splitName, splitRuns } from '../checkpoint/gguf/split.ts'
import { type GgufEntry, ggufEntryBytes, ggufLayout } from '../checkpoint/gguf/writer.ts'
import type { OutputStore } from '../checkpoint/types.ts'
import type { OutputTensor } from './plan.ts'
import { DirectSink } from './sink.ts'

interface GgufPart {
  readonly file: string
  readonly metadata: GgufMetadata
  readonly tensors: readonly OutputTensor[]
}

/**
 * A GGUF file with its tensors in the order given, data and header padded as "general.alignment" says; several where they do not fit into
 * `maxBytes`.
 */
export class GgufSink extends DirectSink {
  private readonly parts: readonly GgufPart[]
  constructor(
    output: OutputStore,
    file: string,
    metadata: GgufMetadata,
    tensors: readonly OutputTensor[],
    maxBytes = Number.POSITIVE_INFINITY,
  ) {
    super(output)
    const sizes = tensors.map((t) => ggufEntryBytes(asEntry(t)))
    const runs = splitRuns(sizes, maxBytes)
    const stem = file.replace(/\.gguf$/, '')
    this.parts =
      runs.length === 1
        ? [{ file, metadata, tensors }]
        : runs.map(({ from, to }, i) => ({
            file: splitName(stem, i, runs.length),
            metadata: splitMetadata(metadata, i, runs.length, tensors.length),
            tensors: tensors.slice(from, to),
          }))
  }

  /** Names of the files in order; the first opens the model. */
  get files(): readonly string[] {
    return this.parts.map((part) => part.file)
  }

  protected layout() {
    return this.parts.map(({ file, metadata, tensors }) => {
      const { header, offsets, sizes, total } = ggufLayout(metadata, tensors.map(asEntry))
      const places = tensors.map((t, i) => ({ ...t, file, at: offsets[i], bytes: sizes[i] }))
      return { file, header, total, places }
    })
  }
}

function asEntry({ name, dtype, shape }: OutputTensor): GgufEntry {
  return { name, type: dtype, shape }
}
