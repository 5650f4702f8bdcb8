// Reads tokenizer.model: the SentencePiece protobuf, as far as tokens need it (pieces, scores, types, dummy prefix).
// Lengths are checked before anything is taken; unknown fields are skipped.
import { FileError, UnsupportedError } from '../core/errors.ts'
import { MAX_VOCABULARY } from './tokenizer-json.ts'
import { TokenType, type Vocabulary } from './vocabulary.ts'

export interface SentencePieceModel extends Vocabulary {
  readonly types: Int32Array
  readonly scores: Float32Array
  /** A space is put before each text. */
  readonly addDummyPrefix: boolean
  readonly kind: 'bpe' | 'unigram' | 'word' | 'char'
  readonly unkId: number
  readonly bosId: number
  readonly eosId: number
  readonly padId: number
}

const KINDS = { 1: 'unigram', 2: 'bpe', 3: 'word', 4: 'char' } as const

type Field =
  | { readonly number: number; readonly kind: 'varint'; readonly value: number }
  | { readonly number: number; readonly kind: 'fixed32'; readonly value: number }
  | { readonly number: number; readonly kind: 'bytes'; readonly value: Uint8Array }
  | { readonly number: number; readonly kind: 'skipped' }

/** Wire types of protobuf. */
const VARINT = 0
const FIXED64 = 1
const BYTES = 2
const FIXED32 = 5

class Message {
  private at = 0
  private readonly bytes: Uint8Array
  private readonly view: DataView
  private readonly file: string

  constructor(bytes: Uint8Array, file: string) {
    this.bytes = bytes
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.file = file
  }

  *fields(): Generator<Field> {
    while (this.at < this.bytes.length) {
      const tag = this.varint()
      const number = Math.floor(tag / 8)
      if (number === 0) this.fail('a field has the number 0')
      yield this.field(number, tag % 8)
    }
  }

  private field(number: number, wire: number): Field {
    switch (wire) {
      case VARINT:
        return { number, kind: 'varint', value: this.varint() }
      case FIXED64:
        this.take(8)
        return { number, kind: 'skipped' }
      case BYTES:
        return { number, kind: 'bytes', value: this.take(this.varint()) }
      case FIXED32: {
        const at = this.at
        this.take(4)
        return { number, kind: 'fixed32', value: this.view.getFloat32(at, true) }
      }
      default:
        return this.fail(`field ${number} has the unknown wire type ${wire}`)
    }
  }

  private take(length: number): Uint8Array {
    if (length > this.bytes.length - this.at)
      this.fail(`a field claims ${length} bytes, ${this.bytes.length - this.at} are left`)
    this.at += length
    return this.bytes.subarray(this.at - length, this.at)
  }

  /** Values beyond 2^53 lose digits, but no field that is used can hold one. Negative int32s come as 64-bit numbers. */
  private varint(): number {
    let value = 0
    for (let shift = 0; shift < 70; shift += 7) {
      if (this.at >= this.bytes.length) this.fail('the file ends inside a number')
      const byte = this.bytes[this.at++]
      value += (byte & 0x7f) * 2 ** shift
      if (byte < 0x80) return value
    }
    return this.fail('a number has more than 10 bytes')
  }

  fail(problem: string): never {
    throw new FileError(`Cannot read "${this.file}" as a SentencePiece model: ${problem}`, {
      file: this.file,
      offset: this.at,
    })
  }
}

/** Reads the bytes of a tokenizer.model. Throws FileError. */
export function readSentencePiece(bytes: Uint8Array, file = 'tokenizer.model'): SentencePieceModel {
  const tokens: string[] = []
  const types: number[] = []
  const scores: number[] = []
  const numbers: Record<string, number> = { kind: 1, unk: 0, bos: 1, eos: 2, pad: -1, dummyPrefix: 1 }
  const root = new Message(bytes, file)
  for (const field of root.fields()) {
    if (field.kind !== 'bytes') continue
    if (field.number === 1) {
      if (tokens.length >= MAX_VOCABULARY) root.fail(`it has more than ${MAX_VOCABULARY} pieces`)
      const piece = readPiece(field.value, file)
      tokens.push(piece.token)
      types.push(piece.type)
      scores.push(piece.score)
    } else if (field.number === 2)
      readNumbers(field.value, file, { 3: 'kind', 40: 'unk', 41: 'bos', 42: 'eos', 43: 'pad' }, numbers)
    else if (field.number === 3) readNumbers(field.value, file, { 3: 'dummyPrefix' }, numbers)
  }
  if (tokens.length === 0) root.fail('it has no pieces')
  const kind = KINDS[numbers.kind as keyof typeof KINDS]
  if (!kind) root.fail(`its model type is ${numbers.kind}`)
  return {
    tokens,
    types: Int32Array.from(types),
    scores: Float32Array.from(scores),
    addDummyPrefix: numbers.dummyPrefix !== 0,
    kind,
    unkId: numbers.unk,
    bosId: numbers.bos,
    eosId: numbers.eos,
    padId: numbers.pad,
  }
}

function readPiece(bytes: Uint8Array, file: string): { token: string; type: number; score: number } {
  let token = ''
  let type: number = TokenType.normal
  let score = 0
  const message = new Message(bytes, file)
  for (const field of message.fields()) {
    if (field.number === 1 && field.kind === 'bytes') {
      try {
        token = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(field.value)
      } catch {
        message.fail('a piece is not UTF-8')
      }
    }
    if (field.number === 2 && field.kind === 'fixed32') score = field.value
    if (field.number === 3 && field.kind === 'varint') type = field.value
  }
  if (type < TokenType.normal || type > TokenType.byte) message.fail(`a piece has the unknown type ${type}`)
  return { token, type, score }
}

/** Whole numbers of a sub-message into `out`, under the names of `names`; a 64-bit two's complement is a negative int32. */
function readNumbers(
  bytes: Uint8Array,
  file: string,
  names: Readonly<Record<number, string>>,
  out: Record<string, number>,
): void {
  for (const field of new Message(bytes, file).fields()) {
    const name = names[field.number]
    if (name && field.kind === 'varint') out[name] = field.value > 2 ** 31 ? -1 : field.value
  }
}

/** Throws UnsupportedError where the model does not split by BPE. */
export function requireBpe(model: SentencePieceModel, file = 'tokenizer.model'): void {
  if (model.kind !== 'bpe')
    throw new UnsupportedError(
      `Cannot tokenize with "${file}": it is a ${model.kind} model, fewbit reads BPE models of SentencePiece`,
      { file, kind: model.kind, hint: 'save the tokenizer with transformers, which writes a tokenizer.json' },
    )
}
