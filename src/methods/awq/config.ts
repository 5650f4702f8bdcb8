// quantization_config of AWQ: AutoAWQ's keys in old and new spelling, what transformers adds, and beside them how the search works, which
// no file stores.
import { UnsupportedError } from '../../core/errors.ts'
import { fromPlain, type Json, type JsonObject } from '../../core/json.ts'
import { asNumber, ConfigKeys, choice, flag, names, number, orDefault, orNull } from '../fields.ts'
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
/** Keys that say how others run a model, or that transformers takes over from its GPTQ config. */
const ACCEPTED =
  /^(quant_method|format|backend|do_fuse|fuse_max_seq_len|modules_to_fuse|exllama_config|desc_act|sym|damp_percent|act_group_aware|true_sequential|dataset|tokenizer|pack_dtype|meta|checkpoint_format|lm_head|static_groups|use_cuda_fp16|cache_block_outputs|model_seqlen|block_name_to_quantize|module_name_preceding_first_block|batch_size|pad_token_id|max_input_length|modules_in_block_to_quantize)$/

const versionNamed = (value: Json): AwqVersion | undefined => {
  const name = typeof value === 'string' ? value.toLowerCase() : ''
  return VERSIONS.find((version) => version === name) ?? SAME_BYTES[name]
}

const KEYS = new ConfigKeys('AWQ', {
  bits: number(
    4,
    WIDTHS.join(', '),
    (n) => WIDTHS.some((width) => width === n),
    'bits a weight; 4 alone where the version is not gemm (--bits)',
  ),
  group_size: number(
    128,
    'a multiple of 8, or -1 for whole rows',
    (n) => n === -1 || (Number.isSafeInteger(n) && n > 0 && n % 8 === 0),
    'inputs that share a scale (--group-size)',
  ),
  zero_point: orDefault(flag(true, 'a zero point for each group; without, codes are symmetric')),
  version: {
    ...choice('gemm', VERSIONS, 'layout of the stored tensors (--type)'),
    expected: VERSIONS.join(', '),
    check: (value) => versionNamed(value),
  },
  [SKIP_KEY]: orNull(names(null, 'linears that stay float: an entry anywhere in a name skips it')),
  duo_scaling: orDefault(flag(true, 'weights take part in the choice of factors, not the activations alone')),
  apply_clip: orDefault(flag(true, 'search how far the largest weights are cut')),
})

export const OPTIONS = KEYS.fields

/** Parses a quantization_config as it stands in a config.json, or an old quant_config.json. Throws ConfigError naming the key. */
export function parseConfig(stored: JsonObject): Awq {
  const given: JsonObject = { ...stored }
  for (const [old, key] of Object.entries(OLD_NAMES))
    if (given[old] !== undefined && given[key] === undefined) given[key] = given[old]
  // `version` wins over transformers' `format`; `backend: llm-awq` of older files means that layout.
  given.version ??= given.format ?? (given.backend === 'llm-awq' ? 'llm-awq' : 'gemm')
  if (String(given.version).toLowerCase() === 'marlin')
    throw new UnsupportedError('quantization_config of AWQ: version "marlin" is not supported', {
      key: 'version',
      actual: given.version,
      expected: VERSIONS,
      hint: 'quantise again as gemm',
    })
  const values = KEYS.values(given)
  const bits = asNumber(values.bits) as AwqBits
  const version = values.version as AwqVersion
  if (bits !== 4 && version !== 'gemm')
    KEYS.refuse('bits', values.bits, `4: only gemm has other widths, not ${version}`)
  return {
    bits,
    groupSize: asNumber(values.group_size),
    version,
    symmetric: values.zero_point === false,
    skip: (values[SKIP_KEY] ?? []) as string[],
    duoScaling: values.duo_scaling === true,
    applyClip: values.apply_clip === true,
    warnings: KEYS.unknown(
      given,
      Object.keys(given).filter((key) => key in OLD_NAMES || ACCEPTED.test(key)),
      'not stored',
    ),
    stored: {
      bits: values.bits,
      group_size: values.group_size,
      [SKIP_KEY]: values[SKIP_KEY],
      quant_method: 'awq',
      version,
      zero_point: values.zero_point,
    },
  }
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
  Object.assign(given, KEYS.fromFlags(flags))
  const { stored, duoScaling, applyClip } = parseConfig(given)
  // What the search is told is told again to parseConfig; what is the default need not be.
  return { ...stored, ...(duoScaling ? {} : { duo_scaling: false }), ...(applyClip ? {} : { apply_clip: false }) }
}
