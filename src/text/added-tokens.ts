// Splits text at added tokens as the reference does: leftmost, then longest match; `single_word` looks at the neighbours,
// `lstrip` and `rstrip` swallow whitespace. The library ignores the first and uses JavaScript's idea of whitespace for the others.
import type { AddedTokenJson } from './types.ts'

/** A piece of text, or an added token in it. `start` is in UTF-16 units of the text that was split. */
export interface Segment {
  readonly text: string
  readonly start: number
  readonly token?: AddedTokenJson
}

interface TrieNode {
  readonly next: Map<number, TrieNode>
  token?: AddedTokenJson
}

/** Rust's `\w`, and White_Space: U+0085 is a space and U+FEFF is none, unlike in JavaScript. */
const WORD = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]/u
const WORD_AT_END = new RegExp(`${WORD.source}$`, 'u')
const WORD_AT_START = new RegExp(`^${WORD.source}`, 'u')
const SPACE = /\p{White_Space}/u

function spacesBefore(text: string, end: number): number {
  while (end > 0 && SPACE.test(text[end - 1])) end--
  return end
}

function spacesAfter(text: string, start: number): number {
  while (start < text.length && SPACE.test(text[start])) start++
  return start
}

/** The two UTF-16 units next to a match are enough to see whether a word goes on there. */
function isSingleWord(text: string, start: number, end: number): boolean {
  return !WORD_AT_END.test(text.slice(Math.max(0, start - 2), start)) && !WORD_AT_START.test(text.slice(end, end + 2))
}

/** Finds one set of added tokens. */
export class AddedTokenSplitter {
  private readonly root: TrieNode = { next: new Map() }

  /** `entries`: the string to look for (normalised or not) and its token; of two equal strings the first counts. */
  constructor(entries: Iterable<readonly [string, AddedTokenJson]>) {
    for (const [content, token] of entries) {
      if (content === '') continue
      let node = this.root
      for (let i = 0; i < content.length; i++) {
        const unit = content.charCodeAt(i)
        let child = node.next.get(unit)
        if (!child) node.next.set(unit, (child = { next: new Map() }))
        node = child
      }
      node.token ??= token
    }
  }

  /** Non-empty segments in order. */
  split(text: string): Segment[] {
    const out: Segment[] = []
    let done = 0
    for (let at = 0; at < text.length; ) {
      const match = this.longestAt(text, at)
      if (!match) {
        at++
        continue
      }
      const { token, end } = match
      if (!token.single_word || isSingleWord(text, at, end)) {
        const from = token.lstrip ? Math.max(done, spacesBefore(text, at)) : at
        if (from > done) out.push({ text: text.slice(done, from), start: done })
        out.push({ text: text.slice(at, end), start: from, token })
        done = token.rstrip ? spacesAfter(text, end) : end
      }
      at = Math.max(end, done)
    }
    if (done < text.length) out.push({ text: text.slice(done), start: done })
    return out
  }

  private longestAt(text: string, at: number): { token: AddedTokenJson; end: number } | undefined {
    let node: TrieNode | undefined = this.root
    let found: { token: AddedTokenJson; end: number } | undefined
    for (let i = at; i < text.length; i++) {
      node = node.next.get(text.charCodeAt(i))
      if (!node) break
      if (node.token) found = { token: node.token, end: i + 1 }
    }
    return found
  }
}
