// Evaluation text -> ids, as each recipe reads a file.
import { SEPARATOR, textPieces } from '../text/pieces.ts'
import type { Tokenizer } from '../text/types.ts'
import type { RecipeName } from './recipes.ts'

/** Ids of a text file: each piece without special tokens, ended by `<|endoftext|>`, or by `eosId` where the vocabulary has none. */
export function evaluationIds(text: string, tokenizer: Tokenizer, eosId: number | undefined): number[] {
  const end = tokenizer.idOf(SEPARATOR) ?? eosId
  const out: number[] = []
  for (const piece of textPieces(text)) {
    for (const id of tokenizer.encode(piece, { addSpecialTokens: false })) out.push(id)
    if (end !== undefined) out.push(end)
  }
  return out
}

/**
 * As llama-perplexity reads a file: one final line break is dropped, the rest stands as it is, special tokens in it are plain text,
 * and what the tokenizer adds is added once. `bosId` is what each window begins with, where the tokenizer adds one.
 */
export function llamaIds(text: string, tokenizer: Tokenizer): { ids: number[]; bosId: number | undefined } {
  const { bos } = tokenizer.specialIds
  const ids = tokenizer.encode(text.endsWith('\n') ? text.slice(0, -1) : text, { splitSpecialTokens: true })
  const addsBos = bos !== undefined && tokenizer.encode('')[0] === bos
  return { ids, bosId: addsBos ? bos : undefined }
}

/** The ids of a text for a recipe, and the recipe's `bosId`. */
export function idsForRecipe(
  recipe: RecipeName,
  text: string,
  tokenizer: Tokenizer,
  eosId: number | undefined,
): { ids: number[]; bosId?: number } {
  return recipe === 'llama' ? llamaIds(text, tokenizer) : { ids: evaluationIds(text, tokenizer, eosId) }
}
