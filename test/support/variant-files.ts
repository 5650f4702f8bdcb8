// The files that the options of variants name, made for a model.
import { writeImportance } from '../../src/calibrate/importance.ts'
import type { ByteSource } from '../../src/checkpoint/types.ts'
import { IMATRIX_FILE } from '../../src/methods/gguf/imatrix.ts'
import type { ModelSource } from '../../src/models/source.ts'
import { memorySource } from './memory-files.ts'
import { memoryOutput } from './memory-output.ts'
import { seeded, seedOf } from './random.ts'

/** Opens a file by the name that a variant has for it. */
export function variantFiles(source: ModelSource): (name: string) => Promise<ByteSource> {
  return async (name) => {
    if (name !== IMATRIX_FILE) throw new Error(`No variant file is called "${name}"`)
    return memorySource(name, await importanceMatrix(source))
  }
}

/** Seeded sums of squares for every matrix, the token table too: columns that never meet a value, and loud ones, among them. */
async function importanceMatrix(source: ModelSource): Promise<Uint8Array> {
  const output = memoryOutput(IMATRIX_FILE)
  const matrices = source.parameters.filter(({ parameter }) => parameter.shape.length === 2)
  const entries = matrices.map(({ parameter: { shape }, names }) => {
    const name = names.gguf ?? names.path // a family without names in GGUF is refused, whatever is in the file
    const random = seeded(seedOf(name))
    const sums = Float64Array.from({ length: shape[1] }, () => {
      const kind = random()
      return kind < 0.05 ? 0 : 64 * random() * (kind > 0.95 ? 100 : 1)
    })
    return { name, sums, count: 64 }
  })
  await writeImportance(entries, { datasets: ['seeded'], chunks: 2, chunkSize: 32 }, output)
  return output.saved[IMATRIX_FILE]
}
