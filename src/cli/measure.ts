// Speed of an executable: the best of several runs of one prompt and one stretch of decoding.
import { rowsOf } from '../backends/batch.ts'
import type { Executable } from '../backends/types.ts'
import { UsageError } from '../core/errors.ts'

export interface SpeedOptions {
  readonly prompt: number
  readonly tokens: number
  readonly repeat: number
  readonly signal?: AbortSignal
}

export interface Speed {
  readonly prefillTokensPerSecond: number
  readonly decodeTokensPerSecond: number
  /** Of processor time, all threads together: what other processes take of the machine does not count. */
  readonly decodeTokensPerCpuSecond: number
}

/** Ids spread over the vocabulary, the same on every run. */
function syntheticIds(count: number, vocabSize: number): number[] {
  let state = 12345
  return Array.from({ length: count }, () => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff
    return state % vocabSize
  })
}

/** Milliseconds of processor time that this process has used. */
function cpuMs(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
}

/** Tokens a second of a prompt of `prompt` tokens and of `tokens` decode steps after it. */
export async function measureSpeed(
  model: Executable,
  size: { vocabSize: number; maxPositions: number },
  options: SpeedOptions,
): Promise<Speed> {
  const { prompt, tokens, repeat, signal } = options
  if (prompt + tokens > size.maxPositions) {
    throw new UsageError(
      `--prompt ${prompt} and --tokens ${tokens} exceed the model's ${size.maxPositions} positions`,
      { expected: size.maxPositions, actual: prompt + tokens },
    )
  }
  const ids = syntheticIds(prompt + tokens, size.vocabSize)
  let prefill = 0
  let decode = 0
  let decodeByCpu = 0
  for (let r = 0; r < repeat; r++) {
    model.truncate(0, 0)
    const start = performance.now()
    await model.run(rowsOf(ids.slice(0, prompt), 0, 'last'))
    const read = performance.now()
    const used = cpuMs()
    for (let i = 0; i < tokens; i++) {
      signal?.throwIfAborted()
      await model.run(rowsOf([ids[prompt + i]], prompt + i, 'last'))
    }
    prefill = Math.max(prefill, (prompt * 1000) / (read - start))
    decode = Math.max(decode, (tokens * 1000) / (performance.now() - read))
    decodeByCpu = Math.max(decodeByCpu, (tokens * 1000) / (cpuMs() - used))
  }
  return { prefillTokensPerSecond: prefill, decodeTokensPerSecond: decode, decodeTokensPerCpuSecond: decodeByCpu }
}
