// The pickle of a state dictionary: an OrderedDict of tensors, each a view of a whole storage, as torch.save writes it (protocol 2).
import { elementCount } from '../../core/dtypes.ts'
import { FileError } from '../../core/errors.ts'
import { STORAGE_NAMES } from './storages.ts'

/** A tensor by name; `storage` is the key of its bytes, which two names may share. */
export interface PickledTensor {
  readonly name: string
  readonly dtype: string
  readonly shape: readonly number[]
  readonly storage: string
}

const OP = {
  proto: 0x80,
  mark: 0x28,
  stop: 0x2e,
  emptyTuple: 0x29,
  tuple: 0x74,
  global: 0x63,
  put: 0x72, // LONG_BINPUT
  get: 0x6a, // LONG_BINGET
  reduce: 0x52,
  persistentId: 0x51,
  text: 0x58, // BINUNICODE
  int1: 0x4b,
  int4: 0x4a,
  long1: 0x8a,
  false: 0x89,
  setItems: 0x75,
} as const

const MAX_INT4 = 2 ** 31 - 1

/** Throws FileError where torch has no storage of a dtype. */
export function pickleStateDict(tensors: readonly PickledTensor[]): Uint8Array {
  const out = new Pickler()
  out.op(OP.proto, 2)
  out.emptyDict()
  out.op(OP.mark)
  for (const tensor of tensors) {
    out.text(tensor.name)
    out.tensor(tensor)
  }
  out.op(OP.setItems, OP.stop)
  return out.bytes()
}

class Pickler {
  private readonly parts: Uint8Array[] = []
  private readonly memo = new Map<string, number>()

  op(...codes: number[]): void {
    this.parts.push(Uint8Array.from(codes))
  }

  text(value: string): void {
    const bytes = new TextEncoder().encode(value)
    this.withUint32(OP.text, bytes.length)
    this.parts.push(bytes)
  }

  emptyDict(): void {
    this.global('collections.OrderedDict')
    this.op(OP.emptyTuple, OP.reduce)
  }

  /** `_rebuild_tensor_v2(storage, offset 0, shape, strides, requires_grad False, backward hooks {})`. */
  tensor({ name, dtype, shape, storage }: PickledTensor): void {
    const type = STORAGE_NAMES.get(dtype)
    if (type === undefined)
      throw new FileError(`Cannot write "${name}" to a file of torch.save: it is ${dtype}`, {
        tensor: name,
        actual: dtype,
        expected: [...STORAGE_NAMES.keys()],
      })
    this.global('torch._utils._rebuild_tensor_v2')
    this.op(OP.mark)
    this.storage(type, storage, elementCount(shape))
    this.int(0)
    this.sizes(shape)
    this.sizes(shape.map((_, i) => elementCount(shape.slice(i + 1))))
    this.op(OP.false)
    this.emptyDict()
    this.op(OP.tuple, OP.reduce)
  }

  bytes(): Uint8Array {
    const out = new Uint8Array(this.parts.reduce((sum, part) => sum + part.length, 0))
    let at = 0
    for (const part of this.parts) {
      out.set(part, at)
      at += part.length
    }
    return out
  }

  /** `('storage', type, key, 'cpu', elements)`, which the reader looks up. */
  private storage(type: string, key: string, elements: number): void {
    this.op(OP.mark)
    this.text('storage')
    this.global(type)
    this.text(key)
    this.text('cpu')
    this.int(elements)
    this.op(OP.tuple, OP.persistentId)
  }

  private sizes(values: readonly number[]): void {
    this.op(OP.mark)
    for (const value of values) this.int(value)
    this.op(OP.tuple)
  }

  private int(value: number): void {
    if (value < 256) this.op(OP.int1, value)
    else if (value <= MAX_INT4) this.withUint32(OP.int4, value)
    else {
      this.op(OP.long1, 8)
      this.parts.push(new Uint8Array(BigInt64Array.of(BigInt(value)).buffer))
    }
  }

  /** A name, written out once. */
  private global(name: string): void {
    const known = this.memo.get(name)
    if (known !== undefined) {
      this.withUint32(OP.get, known)
      return
    }
    const dot = name.lastIndexOf('.')
    this.op(OP.global)
    this.parts.push(new TextEncoder().encode(`${name.slice(0, dot)}\n${name.slice(dot + 1)}\n`))
    this.withUint32(OP.put, this.memo.size)
    this.memo.set(name, this.memo.size)
  }

  private withUint32(code: number, value: number): void {
    const bytes = new Uint8Array(5)
    bytes[0] = code
    new DataView(bytes.buffer).setUint32(1, value, true)
    this.parts.push(bytes)
  }
}
