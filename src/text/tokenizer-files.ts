// A tokenizer written as the files of a model folder: tokenizer.json, tokenizer_config.json and the chat templates, as transformers 5 lays
// them out. Used where a GGUF file becomes a folder.
import type { Plain, PlainObject } from '../core/json.ts'
import type { TokenizerParts } from './gguf-vocabulary.ts'
import type { StepJson, TokenizerJson } from './types.ts'

/** Name -> text. `maxLength`: tokens that the model was trained on at once. */
export function tokenizerFiles(parts: TokenizerParts, maxLength: number): Map<string, string> {
  const files = new Map([
    ['tokenizer.json', `${JSON.stringify(completeJson(parts.json), null, 2)}\n`],
    ['tokenizer_config.json', `${JSON.stringify(sorted(configOf(parts, maxLength)), null, 2)}\n`],
  ])
  if (parts.chatTemplate !== undefined) files.set('chat_template.jinja', parts.chatTemplate)
  for (const [name, template] of parts.namedTemplates) files.set(`additional_chat_templates/${name}.jinja`, template)
  return files
}

function configOf({ config }: TokenizerParts, maxLength: number): PlainObject {
  return {
    ...config,
    backend: 'tokenizers',
    clean_up_tokenization_spaces: false,
    model_max_length: maxLength,
    tokenizer_class: 'TokenizersBackend',
  }
}

function sorted(object: PlainObject): Record<string, Plain> {
  return Object.fromEntries(Object.entries(object).sort(([a], [b]) => (a < b ? -1 : 1))) as Record<string, Plain>
}

/** Every key that the tokenizers library insists on; fewbit's own reader takes their absence for the default. */
function completeJson(json: TokenizerJson): unknown {
  const ids = new Map(json.added_tokens.map(({ id, content }) => [content, id]))
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: json.added_tokens.map(({ id, content, special = false, normalized = false }) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized,
      special,
    })),
    normalizer: json.normalizer,
    pre_tokenizer: json.pre_tokenizer,
    post_processor: postProcessor(json.post_processor, ids),
    decoder: json.decoder && byteLevel(json.decoder),
    model: {
      dropout: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      ...json.model,
    },
  }
}

function byteLevel(decoder: StepJson): StepJson {
  if (decoder.type !== 'ByteLevel') return decoder
  return { add_prefix_space: true, trim_offsets: true, use_regex: true, ...decoder }
}

/** A template names its special tokens with their ids. */
function postProcessor(step: StepJson | null, ids: ReadonlyMap<string, number>): StepJson | null {
  if (step?.type !== 'TemplateProcessing') return step
  const pieces = step.single as readonly { readonly SpecialToken?: { readonly id: string } }[]
  const named = pieces.flatMap(({ SpecialToken }) => (SpecialToken ? [SpecialToken.id] : []))
  const special = named.map((id) => [id, { id, ids: [ids.get(id)], tokens: [id] }])
  const second = pieces.map((p) => ('Sequence' in p ? { Sequence: { id: 'B', type_id: 1 } } : p))
  return { ...step, pair: [...pieces, ...second], special_tokens: Object.fromEntries(special) }
}
