// A model with a tied head seen as one whose head is a weight of its own, equal to the embedding: what a method needs that quantises the
// head, for then the two are no longer one.
import type { Method } from '../methods/types.ts'
import { type ModelSource, modelSource } from './source.ts'
import { EMBEDDING, HEAD } from './types.ts'

/** The source itself, or with its tied head made a parameter where `method` asks for that. */
export async function untiedFor(source: ModelSource, method: Method, config: unknown): Promise<ModelSource> {
  const { checkpoint, family } = source
  const nameOf = (path: string) => family.names(source.config).find((n) => n.path === path)?.huggingFace
  const [headName, embeddingName] = [nameOf(`${HEAD}.weight`), nameOf(EMBEDDING)]
  const embedding = embeddingName === undefined ? undefined : checkpoint.tensors.get(embeddingName)
  if (!source.config.tied || headName === undefined || !embedding) return source
  const head = headName.replace(/\.weight$/, '')
  if (!method.untiesHead?.(config, head)) return source
  const tensors = new Map(checkpoint.tensors)
  tensors.set(headName, { ...embedding, name: headName })
  const untied = await modelSource({
    ...checkpoint,
    tensors,
    config: { ...source.configJson, tie_word_embeddings: false },
    read: (tensor, from, to, into) => checkpoint.read(tensor.name === headName ? embedding : tensor, from, to, into),
  })
  const warning = `${head} was tied to the embedding: it is quantised and stored on its own`
  return { ...untied, warnings: [...source.warnings, warning] }
}
