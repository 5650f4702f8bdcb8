// quantization_config of AWQ: AutoAWQ's keys in old and new spelling, what transformers adds, and beside them how the search works, which
// no file stores.
import { ConfigError, UnsupportedError } from '../../core/errors.ts'
import { fromPlain, type Json, JsonNumber, type JsonObject, toPlain } from '../../core/json.ts'
import type { OptionInfo } from '../fields.ts'
import { keysOfFlags, listOfText, valueOfText } from '../flags.ts'
import type { MethodFlags } from '../types.ts'

export const SKIP_KEY = 'modules_to_not_convert'

/** Layouts of the stored tensors. */
export const VERSIONS = ['gemm', 'gemv', 'gemv_fast', 'llm-awq'] as const
export type AwqVersion = (typeof VERSIONS)[number]

/** Widths that files have: AutoAWQ's, and those that gptqmodel added. */
export const WIDTHS = [2, 3, 4, 8] as const
export type AwqBits = (typeof WIDTHS)[number]

export interface Awq {
  readonly bits: AwqBits
  /** Inputs that share a scale; -1: all of a row. */
  readonly groupSize: number
  readonly version: AwqVersion
  /** Codes reach as far below zero as above, and the zero point lies in the middle (`zero_point: false`). */
  readonly symmetric: boolean
  /** Substrings of names inside a decoder layer. */
  readonly skip: readonly string[]
  /** Weights take part in the choice of factors, not the activations alone. */
  readonly duoScaling: boolean
  readonly applyClip: boolean
  readonly warnings: readonly string[]
  /** Every key as it is to be stored. */
  readonly stored: JsonObject
}

/** How one linear is quantised and stored. */
export interface AwqSettings {
  readonly bits: AwqBits
  /** Divides the inputs. */
  readonly group: number
  readonly version: AwqVersion
  readonly symmetric: boolean
}

/** Names that older files have for the same bytes. */
const SAME_BYTES: Readonly<Record<string, AwqVersion>> = { exllama: 'gemm', exllamav2: 'gemm', ipex: 'gemm' }
const OLD_NAMES = { w_bit: 'bits', q_group_size: 'group_size' } as const
const SEARCH_KEYS = ['duo_scaling', 'apply_clip'] as const
/** Keys that say how others run a model, or that transformers takes over from its GPTQ config. */
const ACCEPTED =
  /^(quant_method|format|backend|do_fuse|fuse_max_seq_len|modules_to_fuse|exllama_config|desc_act|sym|damp_percent|act_group_aware|true_sequential|dataset|tokenizer|pack_dtype|meta|checkpoint_format|lm_head|static_groups|use_cuda_fp16|cache_block_outputs|model_seqlen|block_name_to_quantize|module_name_preceding_first_block|batch_size|pad_token_id|max_input_length|modules_in_block_to_quantize)$/

function refuse(key: string, actual: Json, expected: string): never {
  const plain = toPlain(actual)
  throw new ConfigError(`quantization_config of AWQ: "${key}" is ${JSON.stringify(plain)}, expected ${expected}`, {
    key,
    actual: plain,
    expected,
  })
}

function flag(given: JsonObject, key: string): boolean {
  const value = given[key] ?? true
  return typeof value === 'boolean' ? value : refuse(key, value, 'true or false')
}

function integer(given: JsonObject, key: string, initial: number): number {
  const value = given[key]
  if (value === undefined) return initial
  if (value instanceof JsonNumber && Number.isSafeInteger(value.value)) return value.value
  return refuse(key, value, 'an integer')
}

/** Parses a quantization_config as it stands in a config.json, or an old quant_config.json. Throws ConfigError naming the key. */
export function parseConfig(stored: JsonObject): Awq {
  const given: JsonObject = { ...stored }
  for (const [old, key] of Object.entries(OLD_NAMES))
    if (given[old] !== undefined && given[key] === undefined) given[key] = given[old]
  const known = ['bits', 'group_size', 'zero_point', 'version', SKIP_KEY, ...SEARCH_KEYS, ...Object.keys(OLD_NAMES)]
  const warnings = Object.keys(given)
    .filter((key) => !known.includes(key) && !ACCEPTED.test(key))
    .map((key) => `"${key}" is no key of AWQ: it is not stored`)
  const version = versionOf(given)
  const bits = bitsOf(given, version)
  const groupSize = integer(given, 'group_size', 128)
  if (groupSize !== -1 && (groupSize < 1 || groupSize % 8 !== 0))
    refuse('group_size', given.group_size, 'a multiple of 8, or -1 for whole rows')
  const zeroPoint = flag(given, 'zero_point')
  const skip = given[SKIP_KEY] ?? null
  if (skip !== null && !(Array.isArray(skip) && skip.every((entry) => typeof entry === 'string')))
    refuse(SKIP_KEY, skip, 'a list of strings, or null')
  return {
    bits,
    groupSize,
    version,
    symmetric: !zeroPoint,
    skip: (skip ?? []) as string[],
    duoScaling: flag(given, 'duo_scaling'),
    applyClip: flag(given, 'apply_clip'),
    warnings,
    stored: {
      bits: new JsonNumber(String(bits)),
      group_size: new JsonNumber(String(groupSize)),
      [SKIP_KEY]: skip,
      quant_method: 'awq',
      version,
      zero_point: zeroPoint,
    },
  }
}

function bitsOf(given: JsonObject, version: AwqVersion): AwqBits {
  const value = integer(given, 'bits', 4)
  const bits = WIDTHS.find((width) => width === value)
  if (bits === undefined) refuse('bits', given.bits, WIDTHS.join(', '))
  if (bits !== 4 && version !== 'gemm') refuse('bits', given.bits, `4: only gemm has other widths, not ${version}`)
  return bits
}

/** `version` wins over transformers' `format`; `backend: llm-awq` of older files means that layout. */
function versionOf(given: JsonObject): AwqVersion {
  const value = given.version ?? given.format ?? (given.backend === 'llm-awq' ? 'llm-awq' : 'gemm')
  if (typeof value !== 'string') refuse('version', value, VERSIONS.join(', '))
  const name = value.toLowerCase()
  if (name === 'marlin')
    throw new UnsupportedError('quantization_config of AWQ: version "marlin" is not supported', {
      key: 'version',
      actual: value,
      expected: VERSIONS,
      hint: 'quantise again as gemm',
    })
  const found = VERSIONS.find((version) => version === name) ?? SAME_BYTES[name]
  return found ?? refuse('version', value, VERSIONS.join(', '))
}

export const OPTIONS: Readonly<Record<string, OptionInfo>> = {
  bits: {
    about: 'bits a weight',
    expected: `${WIDTHS.join(', ')}; 4 alone where the version is not gemm`,
    initial: fromPlain(4),
  },
  group_size: {
    about: 'inputs that share a scale',
    expected: 'a multiple of 8, or -1 for whole rows',
    initial: fromPlain(128),
  },
  zero_point: {
    about: 'a zero point for each group; without, codes are symmetric',
    expected: 'true or false',
    initial: true,
  },
  version: { about: 'layout of the stored tensors (--type)', expected: VERSIONS.join(', '), initial: 'gemm' },
  [SKIP_KEY]: {
    about: 'linears that stay float: an entry anywhere in a name skips it',
    expected: 'null or a list of strings',
    initial: null,
  },
  duo_scaling: {
    about: 'weights take part in the choice of factors, not the activations alone',
    expected: 'true or false',
    initial: true,
  },
  apply_clip: { about: 'search how far the largest weights are cut', expected: 'true or false', initial: true },
}

/** quant_config.json of AutoAWQ before it wrote into config.json, which wins where it has a quantization_config. */
export const MARKER_FILE = 'quant_config.json'

/** What such a file stands for; undefined where its keys are not AWQ's. */
export function markerConfig(content: JsonObject, given: JsonObject | undefined): JsonObject | undefined {
  const isAwq = Object.keys(OLD_NAMES).some((key) => content[key] !== undefined)
  return given ?? (isAwq ? { quant_method: 'awq', ...content } : undefined)
}

/** The quantization_config that flags stand for: `--bits`, `--group-size` ("none": whole rows), `--type` (the version), and its own keys. */
export function fromFlags({ groupSize, type, ...flags }: MethodFlags): JsonObject {
  const given: JsonObject = {}
  if (groupSize !== undefined) given.group_size = fromPlain(groupSize ?? -1)
  if (type !== undefined) given.version = type
  Object.assign(given, keysOfFlags(flags, 'AWQ', Object.keys(OPTIONS), fromText))
  const { stored, duoScaling, applyClip } = parseConfig(given)
  // What the search is told is told again to parseConfig; what is the default need not be.
  return { ...stored, ...(duoScaling ? {} : { duo_scaling: false }), ...(applyClip ? {} : { apply_clip: false }) }
}

/** The value that a command-line word stands for. */
function fromText(key: string, text: string): Json {
  if (key === SKIP_KEY) return listOfText(text)
  return key === 'version' ? text : valueOfText(text)
}
