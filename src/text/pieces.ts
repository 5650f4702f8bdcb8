// A text file as pieces: documents between lines that are only `<|endoftext|>`.

/** The line that ends a document. */
export const SEPARATOR = '<|endoftext|>'

/** Pieces between separators, each stripped; empty ones are dropped. */
export function textPieces(text: string): string[] {
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
  return pieces
}
