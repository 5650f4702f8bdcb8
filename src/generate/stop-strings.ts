// Stop strings by bytes: a sequence stops when one of them ends inside its last token. Tokens may hold parts of characters, and a
// stop string may begin in the prompt.
import { ConfigError } from '../core/errors.ts'
import type { Tokenizer } from '../text/types.ts'

const NOTHING = new Uint8Array(0)

function bytesOf(tokenizer: Tokenizer, id: number): Uint8Array {
  return tokenizer.bytesOf(id) ?? NOTHING
}

/** True where `stop` lies in `text` and ends after byte `from`. */
function endsAfter(text: Uint8Array, stop: Uint8Array, from: number): boolean {
  const first = Math.max(0, from + 1 - stop.length)
  for (let at = first; at + stop.length <= text.length; at++) {
    if (stop.every((byte, i) => text[at + i] === byte)) return true
  }
  return false
}

/** Whether the last id of a sequence completes one of `stops`. Throws ConfigError where there are stops but no tokenizer. */
export function stopCondition(
  stops: readonly string[],
  tokenizer: Tokenizer | undefined,
): (ids: readonly number[]) => boolean {
  if (stops.length === 0) return () => false
  if (!tokenizer)
    throw new ConfigError(
      'Cannot look for stop strings without a tokenizer: give the tokenizer together with stopStrings',
    )
  const wanted = stops.map((stop) => new TextEncoder().encode(stop))
  const longest = Math.max(...wanted.map((stop) => stop.length))
  return (ids) => {
    const last = bytesOf(tokenizer, ids[ids.length - 1])
    const parts = [last]
    let before = 0
    for (let i = ids.length - 2; i >= 0 && before < longest - 1; i--) {
      const part = bytesOf(tokenizer, ids[i])
      parts.unshift(part)
      before += part.length
    }
    const text = new Uint8Array(before + last.length)
    let at = 0
    for (const part of parts) {
      text.set(part, at)
      at += part.length
    }
    return wanted.some((stop) => endsAfter(text, stop, before))
  }
}
