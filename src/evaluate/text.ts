// Evaluation text -> ids: pieces between lines `<|endoftext|>`, each stripped, encoded without special tokens and ended by that id.
import type { Tokenizer } from '../text/tokenizer.ts'

const SEPARATOR = '<|endoftext|>'

/** Ids of a text file: `eosId` ends a piece where the vocabulary has no `<|endoftext|>`. */
export function evaluationIds(text: string, tokenizer: Tokenizer, eosId: number): number[] {
  const pieces: string[] = []
  let lines: string[] = []
  const flush = () => {
    const piece = lines.join('\n').trim()
    if (piece) pieces.push(piece)
    lines = []
  }
  for (const line of text.split('\n')) {
    if (line.trim() === SEPARATOR) flush()
    else lines.push(line)
  }
  flush()
  const end = tokenizer.idOf(SEPARATOR) ?? eosId
  return pieces.flatMap((piece) => [...tokenizer.encode(piece, { addSpecialTokens: false }), end])
}
