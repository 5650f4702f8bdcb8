// How a byte-level vocabulary splits text before merging, by the name in `tokenizer.ggml.pre`: as the tokenizer.json of the models
// behind each name does it.
import { UnsupportedError } from '../core/errors.ts'
import { preTokenizerHashes } from './pre-tokenizer-hashes.ts'
import type { StepJson } from './types.ts'

export interface PreTokenizerRule {
  readonly steps: StepJson
  readonly normalizer?: StepJson
  /** Whole pieces that are tokens are taken without merging. */
  readonly ignoreMerges: boolean
  /** bos is added where the file does not say. */
  readonly addsBos: boolean
}

const GPT2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
const CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
const SPACES = '\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+'
const LLAMA3 = `${CONTRACTIONS}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|${SPACES}`
const QWEN2 = `${CONTRACTIONS}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|${SPACES}`
const QWEN35 = `${CONTRACTIONS}|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|${SPACES}`
const UPPER = '[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]'
const LOWER = '[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]'
const words = (suffix: string) =>
  `[^\\r\\n\\p{L}\\p{N}]?${UPPER}*${LOWER}+${suffix}|[^\\r\\n\\p{L}\\p{N}]?${UPPER}+${LOWER}*${suffix}`
const O200K = `${words(`${CONTRACTIONS}?`)}|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|${SPACES}`
const TEKKEN = `${words('')}|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|${SPACES}`
const DEEPSEEK3 =
  '[!"#$%&\'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|' +
  SPACES
const BLOOM = ' ?[^(\\s|.,!?…。，、।۔،)]+'

const split = (pattern: string): StepJson => ({
  type: 'Split',
  pattern: { Regex: pattern },
  behavior: 'Isolated',
  invert: false,
})
const bytes = (useRegex: boolean): StepJson => ({
  type: 'ByteLevel',
  add_prefix_space: false,
  trim_offsets: true,
  use_regex: useRegex,
})
const sequence = (...pretokenizers: StepJson[]): StepJson => ({ type: 'Sequence', pretokenizers })
const splits = (...patterns: string[]): StepJson => sequence(...patterns.map(split), bytes(false))

type Flags = Partial<Pick<PreTokenizerRule, 'normalizer' | 'ignoreMerges' | 'addsBos'>>
const rule = (steps: StepJson, flags: Flags = {}): PreTokenizerRule => ({
  steps,
  ignoreMerges: false,
  addsBos: false,
  ...flags,
})
const NFC: StepJson = { type: 'NFC' }

/** Each rule with the names that use it; the first name is written where only the rule is known. */
const RULES: readonly (readonly [names: string, rule: PreTokenizerRule])[] = [
  [
    'smollm starcoder refact command-r codeshell exaone minerva-7b',
    rule(sequence({ type: 'Digits', individual_digits: true }, bytes(true))),
  ],
  [
    'llama-bpe llama3 llama-v3 smaug-bpe dbrx chatglm-bpe glm4 falcon3 falcon-h1 pixtral lfm2',
    rule(splits(LLAMA3), { ignoreMerges: true, addsBos: true }),
  ],
  ['qwen2 stablelm2 deepseek-r1-qwen megrez hunyuan', rule(splits(QWEN2), { normalizer: NFC })],
  ['qwen35', rule(splits(QWEN35), { normalizer: NFC })],
  ['gpt-2 phi-2 roberta-bpe jina-v2-es jina-v2-de jina-v2-code jina-v1-en olmo jais mpt gigachat', rule(bytes(true))],
  ['gpt-4o llama4 kanana2', rule(splits(O200K), { ignoreMerges: true })],
  ['tekken', rule(splits(TEKKEN), { ignoreMerges: true })],
  ['deepseek-v3 deepseek-v3.1', rule(splits('\\p{N}{1,3}', '[一-龥\\u3040-ゟ゠-ヿ]+', DEEPSEEK3))],
  ['deepseek-coder', rule(splits('[\\r\\n]', '\\s?\\p{L}+', '\\s?\\p{P}+', '[一-龥ࠀ-一가-\\ud7ff]+', '\\p{N}'))],
  ['falcon', rule(splits('[\\p{P}$+<=>^~|`]+', GPT2, '[0-9][0-9][0-9]'))],
  ['bloom poro-chat gpt3-finnish', rule(splits(BLOOM))],
  ['viking', rule(splits(BLOOM, '\\p{N}'))],
  ['default', rule(splits('[\\p{P}$+<=>^~|]+', GPT2, '\\p{N}+', '[0-9][0-9][0-9]'))],
]

const BY_NAME: ReadonlyMap<string, PreTokenizerRule> = new Map(
  RULES.flatMap(([names, one]) => names.split(' ').map((name) => [name, one] as const)),
)

/** Throws UnsupportedError for a name that fewbit does not know. */
export function preTokenizerNamed(name: string): PreTokenizerRule {
  const found = BY_NAME.get(name)
  if (found) return found
  throw new UnsupportedError(`Cannot split text as the tokenizer asks: its pre-tokenizer "${name}" is not known`, {
    pre: name,
    known: [...BY_NAME.keys()],
  })
}

/** The same rule in every spelling: patterns by meaning, order of keys aside. */
function canonical(step: StepJson | null): string {
  const plain = (s: StepJson): unknown => {
    switch (s.type) {
      case 'Sequence':
        return (s.pretokenizers as StepJson[]).map(plain)
      case 'Split':
        return ['split', (s.pattern as { Regex?: string }).Regex ?? s.pattern]
      case 'ByteLevel':
        return ['bytes', s.use_regex ?? true, s.add_prefix_space ?? true]
      case 'Digits':
        return ['digits', s.individual_digits ?? false]
      default:
        return s
    }
  }
  const expanded = JSON.stringify(step ? plain(step) : null)
  // The Hub's Llama 3 and Qwen 2 files spell the contractions in either way.
  return expanded.replaceAll("(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])", CONTRACTIONS)
}

/**
 * The name for `tokenizer.ggml.pre`: by the hash of the ids of the identifying text, else by the same splitting rule; else
 * `default`, with a warning.
 */
export function preTokenizerName(hash: string, preTokenizer: StepJson | null): { name: string; warning?: string } {
  const known = preTokenizerHashes.get(hash)
  if (known !== undefined) return { name: known }
  const wanted = canonical(preTokenizer)
  const same = RULES.find(([, { steps }]) => canonical(steps) === wanted)
  if (same) return { name: same[0].split(' ')[0] }
  const warning =
    'The vocabulary is in no table of pre-tokenizers and splits as none of the known ones: "default" is written, which may split otherwise'
  return { name: 'default', warning }
}
