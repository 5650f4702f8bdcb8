// How a damaged model is refused: one deliberate error, in time.
import { expect } from 'vitest'
import { openCheckpoint } from '../../src/checkpoint/open.ts'
import { FewbitError } from '../../src/core/errors.ts'
import { modelSource } from '../../src/models/source.ts'
import { memoryFiles } from './memory-files.ts'

/** The error of opening these files and loading every weight, which has to come within `maxMs`. */
export async function refusalOf(
  files: Readonly<Record<string, Uint8Array | string>>,
  maxMs: number,
): Promise<FewbitError> {
  const started = performance.now()
  const error = await (async () => {
    const source = await modelSource(await openCheckpoint(memoryFiles(files)))
    for (let i = 0; i < source.graph.parameters.length; i++) await source.load(i)
  })().then(
    () => undefined,
    (e: unknown) => e,
  )
  expect(performance.now() - started).toBeLessThan(maxMs)
  expect(error).toBeInstanceOf(FewbitError)
  return error as FewbitError
}
