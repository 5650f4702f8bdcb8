// quantization_config of AQLM: the scheme "KxB g" and the linears to leave alone; and, beside it, how fewbit's own quantiser works,
// which no file stores.
import { ConfigError } from '../../core/errors.ts'
import { fromPlain, JsonNumber, type JsonObject, toPlain } from '../../core/json.ts'
import type { AdditiveScheme } from '../../weights/scheme.ts'
import { asNumber, ConfigKeys, integer, names, number, orNull } from '../fields.ts'
import type { MethodFlags } from '../types.ts'

export const SKIP_KEY = 'linear_weights_not_to_quantize'

/** Values that a codebook set may have at most: 2^bits x codebooks x group. */
const MAX_CODEBOOK_VALUES = 2 ** 26

/** How the quantiser works; see quantize.ts. */
export interface SearchSettings {
  /** Alternations of codebooks, scales and codes at most. */
  readonly maxEpochs: number
  /** An epoch that gains less than this part of the error is the last. */
  readonly tolerance: number
  /** Hypotheses that the search for codes keeps. */
  readonly beamSize: number
  /** Iterations of the first k-means, and the points a centroid that it is trained on. */
  readonly initIterations: number
  readonly initPointsPerCentroid: number
  readonly seed: number
}

export interface Aqlm {
  readonly scheme: AdditiveScheme
  /** Entries as they stand in the file. */
  readonly skip: readonly string[]
  readonly search: SearchSettings
  readonly warnings: readonly string[]
}

const ANY = Number.MAX_SAFE_INTEGER

/** Keys of the file, with the reference's defaults. */
const SCHEME_FIELDS = {
  in_group_size: integer(8, 1, ANY, 'inputs that a code stands for (--group-size)'),
  nbits_per_codebook: integer(16, 1, 16, 'bits of a code'),
  num_codebooks: integer(1, 1, ANY, 'codes that are summed'),
  out_group_size: integer(1, 1, ANY, 'outputs that a code stands for'),
}

/** Keys of the quantiser, under the names of the reference's program where it has them. */
const SEARCH_FIELDS = {
  max_epochs: integer(20, 0, ANY, 'alternations of codebooks, scales and codes at most'),
  relative_mse_tolerance: number(
    0.01,
    'a number from 0 to 1',
    (n) => n >= 0 && n <= 1,
    'stop where an epoch gains less',
  ),
  beam_size: integer(1, 1, 64, 'hypotheses that the search for codes keeps'),
  init_max_iter: integer(10, 1, ANY, 'iterations of the first k-means'),
  init_max_points_per_centroid: integer(32, 1, ANY, 'points a centroid that it is trained on'),
  seed: integer(0, 0, 2 ** 32 - 1, 'of the random choices'),
}

/** Keys of the reference's block-wise tuning. */
const tuning = number(0, '0', () => true, 'only 0: block-wise tuning needs gradients, which fewbit does not have yet')
const TUNING_FIELDS = { finetune_max_epochs: tuning, finetune_lr: tuning, finetune_batch_size: tuning }

const KEYS = new ConfigKeys('AQLM', {
  ...SCHEME_FIELDS,
  [SKIP_KEY]: orNull(names(null, 'linears that stay float')),
  ...SEARCH_FIELDS,
  ...TUNING_FIELDS,
})

export const OPTIONS = KEYS.fields

const readNumber = (given: JsonObject, key: keyof typeof SCHEME_FIELDS | keyof typeof SEARCH_FIELDS) =>
  asNumber(KEYS.value(given, key))

function readNumbers<K extends keyof typeof SCHEME_FIELDS | keyof typeof SEARCH_FIELDS>(
  given: JsonObject,
  fields: Record<K, unknown>,
): Record<K, number> {
  const read = (Object.keys(fields) as K[]).map((key) => [key, readNumber(given, key)])
  return Object.fromEntries(read) as Record<K, number>
}

/** Parses a quantization_config, also with the quantiser's own keys. Throws ConfigError naming the key. */
export function parseConfig(given: JsonObject): Aqlm {
  const scheme = readNumbers(given, SCHEME_FIELDS)
  const search = readNumbers(given, SEARCH_FIELDS)
  refuseTuning(given)
  const values = 2 ** scheme.nbits_per_codebook * scheme.num_codebooks * scheme.in_group_size * scheme.out_group_size
  if (values > MAX_CODEBOOK_VALUES)
    throw new ConfigError(
      `quantization_config of AQLM: ${schemeName(scheme)} has codebooks of ${values} values, at most ${MAX_CODEBOOK_VALUES} can be read`,
      { key: 'nbits_per_codebook', actual: values, expected: MAX_CODEBOOK_VALUES },
    )
  return {
    scheme: {
      kind: 'additive',
      bits: scheme.nbits_per_codebook,
      codebooks: scheme.num_codebooks,
      group: { out: scheme.out_group_size, in: scheme.in_group_size },
    },
    skip: (KEYS.value(given, SKIP_KEY) ?? []) as string[],
    search: {
      maxEpochs: search.max_epochs,
      tolerance: search.relative_mse_tolerance,
      beamSize: search.beam_size,
      initIterations: search.init_max_iter,
      initPointsPerCentroid: search.init_max_points_per_centroid,
      seed: search.seed,
    },
    warnings: KEYS.unknown(given, ['quant_method'], 'not stored'),
  }
}

/** Block-wise tuning by the reference's definition takes gradients through a block. */
function refuseTuning(given: JsonObject): void {
  const key = Object.keys(TUNING_FIELDS).find((name) => given[name] !== undefined)
  if (key === undefined || (given[key] instanceof JsonNumber && given[key].value === 0)) return
  throw new ConfigError(
    `quantization_config of AQLM: "${key}" asks for block-wise tuning, which needs gradients that fewbit does not have yet`,
    {
      key,
      actual: toPlain(given[key]),
      hint: 'leave it out: codebooks, scales and codes of each linear are still optimised on the calibration data',
    },
  )
}

/** `2x8 g8`, with the rows of a group where it has several. */
export function schemeName(keys: Record<keyof typeof SCHEME_FIELDS, number>): string {
  const out = keys.out_group_size > 1 ? ` (${keys.out_group_size} rows)` : ''
  return `${keys.num_codebooks}x${keys.nbits_per_codebook} g${keys.in_group_size}${out}`
}

export function nameOf({ bits, codebooks, group }: AdditiveScheme): string {
  return schemeName({
    num_codebooks: codebooks,
    nbits_per_codebook: bits,
    in_group_size: group.in,
    out_group_size: group.out,
  })
}

/** The quantization_config that is stored: the scheme, and a list that old and new readers understand. */
export function storedConfig({ scheme }: Aqlm, skip: readonly string[]): JsonObject {
  return fromPlain({
    in_group_size: scheme.group.in,
    [SKIP_KEY]: [...skip],
    nbits_per_codebook: scheme.bits,
    num_codebooks: scheme.codebooks,
    out_group_size: scheme.group.out,
    quant_method: 'aqlm',
  }) as JsonObject
}

/**
 * The quantization_config that flags stand for. `--type 2x8g8` names a scheme, `--bits` the bits a weight (as many 8-bit codebooks as
 * that takes), `--group-size` is in_group_size; other flags are the config's own keys. Default: 2x8 g8. Throws ConfigError.
 */
export function fromFlags(flags: MethodFlags): JsonObject {
  const { bits, groupSize, type, ...others } = flags
  const given: JsonObject = fromPlain({ num_codebooks: 2, nbits_per_codebook: 8 }) as JsonObject
  if (type !== undefined) Object.assign(given, fromType(type))
  if (groupSize !== undefined) given.in_group_size = fromPlain(groupSize)
  Object.assign(given, KEYS.fromFlags(others))
  if (bits !== undefined && others.numCodebooks === undefined) given.num_codebooks = fromPlain(codebooksOf(bits, given))
  parseConfig(given)
  return { ...given, quant_method: 'aqlm' }
}

/** `2x8`, `2x8g8`, `1x16 g16`. */
function fromType(type: string): JsonObject {
  const match = /^(\d+)x(\d+)(?: ?g(\d+))?$/.exec(type)
  if (!match)
    throw new ConfigError(`type is "${type}", expected codebooks x bits and a group size, as in 2x8g8`, {
      key: 'type',
      actual: type,
      hint: '--type 2x8g8',
    })
  const [codebooks, bits, group] = match.slice(1).map((text) => (text === undefined ? undefined : Number(text)))
  return fromPlain({
    num_codebooks: codebooks!,
    nbits_per_codebook: bits!,
    ...(group !== undefined && { in_group_size: group }),
  }) as JsonObject
}

/** Codebooks that give `bits` bits a weight. */
function codebooksOf(bits: number, given: JsonObject): number {
  const width = readNumber(given, 'nbits_per_codebook')
  const group = readNumber(given, 'in_group_size')
  const count = (bits * group) / width
  if (Number.isInteger(count) && count > 0) return count
  throw new ConfigError(`bits is ${bits}: no number of ${width}-bit codebooks over groups of ${group} gives that`, {
    key: 'bits',
    actual: bits,
    hint: `--bits ${Math.max(1, Math.round(count)) * (width / group)}, or --type KxBgG`,
  })
}
