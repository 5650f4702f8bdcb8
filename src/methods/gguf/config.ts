// quantization_config of GGUF: which file type to make, and what may bend its rules. GGUF files carry no such config of their own
// (the file is the config); this is what `--config`, the flags and GgufConfig say.
import { ConfigError } from '../../core/errors.ts'
import { isJsonObject, type Json, type JsonObject, toPlain } from '../../core/json.ts'
import { ConfigKeys, type Field, flag, orNull } from '../fields.ts'
import type { MethodFlags } from '../types.ts'
import {
  FILE_TYPE_NAMES,
  type FileTypeName,
  fileTypeNamed,
  isTensorType,
  TENSOR_TYPES,
  type TensorType,
} from './file-types.ts'
import type { Imatrix } from './imatrix.ts'

/** A tensor whose name contains a match of `pattern` gets `type`. */
export interface TensorTypeRule {
  readonly pattern: RegExp
  readonly type: TensorType
}

export interface Gguf {
  readonly type: FileTypeName
  /** Path of the importance matrix as typed: it is stored in the file. */
  readonly imatrix: string | null
  /** Its contents, once read. */
  readonly importance?: Imatrix
  readonly tensorTypes: readonly TensorTypeRule[]
  readonly tokenEmbeddingType: TensorType | null
  readonly outputTensorType: TensorType | null
  /** No rules by role: every tensor gets the file type's own type. */
  readonly pure: boolean
  readonly leaveOutputTensor: boolean
  /** A source tensor that is quantised already may be decoded and quantised again. */
  readonly allowRequantize: boolean
  /** `tokenizer.ggml.pre` of the file, instead of what the tokenizer says. */
  readonly pre: string | null
  readonly stored: JsonObject
}

/** Settings of one tensor that changes its type. */
export interface GgufSettings {
  readonly type: TensorType
  /** One weight a column, or one a column and expert. */
  readonly importance?: Float32Array
}

const DEFAULT_TYPE: FileTypeName = 'q4_k_m'

const text = (what: string, about: string): Field =>
  orNull({
    about,
    initial: null,
    expected: what,
    check: (value) => (typeof value === 'string' && value !== '' ? value : undefined),
    fromText: (word) => word,
  })

const tensorType = (about: string): Field => ({
  about,
  initial: null,
  expected: `one of ${TENSOR_TYPES.map((type) => type.toLowerCase()).join(', ')}`,
  check: (value) => (typeof value === 'string' && isTensorType(value.toUpperCase()) ? value : undefined),
  fromText: (word) => word,
})

/** Keys besides `type`, which has its own way of being refused. */
const KEYS = new ConfigKeys('GGUF', {
  imatrix: text('the path of a file', 'importance matrix of `fewbit imatrix` or llama-imatrix: a file'),
  tensor_types: {
    about: 'types of single tensors: REGEX=TYPE, several times (--tensor-type too)',
    initial: {},
    expected: 'an object of "REGEX": "type"',
    check: (value) => value,
    fromText: (word) => [word],
  },
  token_embedding_type: orNull(tensorType('type of the token table')),
  output_tensor_type: orNull(tensorType('type of the output head')),
  pure: flag(false, 'every tensor gets the type itself: no rules by role'),
  leave_output_tensor: flag(false, 'the output head stays as it is'),
  allow_requantize: flag(false, 'a tensor that is quantised already may be decoded and quantised again'),
  pre: text('the name of a pre-tokenizer', 'name of the pre-tokenizer, instead of what the tokenizer says'),
})

export const OPTIONS = KEYS.fields

/** Parses the config. Throws ConfigError naming the key and the legal values. */
export function parseConfig(stored: JsonObject): Gguf {
  const legal = ['quant_method', 'type', ...KEYS.names]
  for (const key of Object.keys(stored)) {
    if (legal.includes(key)) continue
    throw new ConfigError(`quantization_config of GGUF: there is no key "${key}"`, {
      key,
      expected: legal,
      hint: `its keys are ${legal.join(', ')}`,
    })
  }
  const asked = stored.type === undefined ? DEFAULT_TYPE : stored.type
  const type = typeof asked === 'string' ? fileTypeNamed(asked) : undefined
  if (!type)
    throw new ConfigError(unknownType(toPlain(asked)), {
      key: 'type',
      actual: toPlain(asked),
      expected: FILE_TYPE_NAMES,
    })
  const values = KEYS.values(stored)
  return {
    type,
    imatrix: values.imatrix as string | null,
    tensorTypes: tensorTypeRules(values.tensor_types),
    tokenEmbeddingType: typeOrNull(values.token_embedding_type),
    outputTensorType: typeOrNull(values.output_tensor_type),
    pure: values.pure === true,
    leaveOutputTensor: values.leave_output_tensor === true,
    allowRequantize: values.allow_requantize === true,
    pre: values.pre as string | null,
    stored: { quant_method: 'gguf', type, ...values },
  }
}

const upper = (type: Json) => (type as string).toUpperCase() as TensorType
const typeOrNull = (type: Json) => (type === null ? null : upper(type))

function unknownType(type: unknown): string {
  return `Unknown GGUF type ${JSON.stringify(type)}: fewbit writes ${FILE_TYPE_NAMES.join(', ')}`
}

/** `{"REGEX": "type"}`, or a list of "REGEX=type" as llama-quantize's --tensor-type takes them. */
function tensorTypeRules(value: Json): TensorTypeRule[] {
  const pairs = typeof value === 'string' ? [value] : value
  if (Array.isArray(pairs)) return pairs.map((pair) => tensorTypeRule(...splitPair(pair)))
  if (isJsonObject(pairs)) return Object.entries(pairs).map((entry) => tensorTypeRule(...entry))
  return KEYS.refuse('tensor_types', value, OPTIONS.tensor_types.expected)
}

function tensorTypeRule(pattern: string, type: Json): TensorTypeRule {
  const { check, expected } = tensorType('')
  if (check(type) === undefined) KEYS.refuse('tensor_types', type, expected)
  return { pattern: compile(pattern), type: upper(type) }
}

function splitPair(pair: Json): [string, string] {
  const at = typeof pair === 'string' ? pair.lastIndexOf('=') : -1
  if (at < 1) KEYS.refuse('tensor_types', pair, '"REGEX=type", e.g. "ffn_down=q6_k"')
  const text = pair as string
  return [text.slice(0, at), text.slice(at + 1)]
}

function compile(pattern: string): RegExp {
  try {
    return new RegExp(pattern.toLowerCase())
  } catch (cause) {
    throw new ConfigError(`quantization_config of GGUF: "tensor_types" has a bad regular expression "${pattern}"`, {
      key: 'tensor_types',
      actual: pattern,
      cause,
    })
  }
}

const TYPE_OF_BITS: Readonly<Record<number, FileTypeName>> = {
  2: 'q2_k',
  3: 'q3_k_m',
  4: 'q4_k_m',
  5: 'q5_k_m',
  6: 'q6_k',
  8: 'q8_0',
  16: 'f16',
  32: 'f32',
}

/** The config that flags stand for. Throws ConfigError where a flag means nothing to GGUF. */
export function fromFlags(flags: MethodFlags): JsonObject {
  const { bits, groupSize, type, ...others } = flags
  if (groupSize !== undefined && groupSize !== null)
    throw new ConfigError('GGUF has no group size of its own: the type fixes it (32 for q*_0 and q*_1, 256 for q*_k)', {
      key: 'groupSize',
      hint: '--type q4_0 | q4_k_m | ...',
    })
  if (bits !== undefined && !(bits in TYPE_OF_BITS))
    throw new ConfigError(`GGUF has no type of ${bits} bits here: there are ${Object.keys(TYPE_OF_BITS).join(', ')}`, {
      key: 'bits',
      actual: bits,
      hint: '--type q4_0 | q4_k_m | ...',
    })
  const name = type === undefined ? TYPE_OF_BITS[bits ?? 4] : fileTypeNamed(type)
  if (!name) throw new ConfigError(unknownType(type), { key: 'type', actual: type, expected: FILE_TYPE_NAMES })
  const { tensorType: rules, ...keys } = others // llama-quantize's name for it
  return {
    quant_method: 'gguf',
    type: name,
    ...KEYS.fromFlags(rules === undefined ? keys : { ...keys, tensorTypes: rules }),
  }
}
