// A pickle read as data: the opcodes that torch.save writes, and a closed list of names. Nothing is ever called: a name that is not on the
// list is refused, by name. What comes out are plain values, tensors as descriptions of where their bytes are.
import { FileError } from '../../core/errors.ts'
import { OPCODES } from './opcodes.ts'
import { STORAGES } from './storages.ts'

/** A tensor of a storage: where its elements are. Strides are in elements. */
export interface TorchTensor {
  readonly kind: 'tensor'
  /** Key of the storage, and its type (`FloatStorage`, or a dtype where the storage is untyped). */
  readonly storage: string
  readonly dtype: string
  /** Elements of the storage. */
  readonly length: number
  readonly offset: number
  readonly shape: readonly number[]
  readonly stride: readonly number[]
}

/** `torch.float16` and its like. */
export interface TorchName {
  readonly kind: 'name'
  readonly name: string
}

export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | TorchTensor
  | TorchName
  | PickleValue[]
  | PickleDict

export type PickleDict = Map<PickleValue, PickleValue>

export function isTensor(value: PickleValue): value is TorchTensor {
  return typeof value === 'object' && value !== null && 'kind' in value && value.kind === 'tensor'
}

/** Values and nesting of real checkpoints are far below these. */
const MAX_STACK = 1 << 22
const MAX_RANK = 8

const CALLABLE: ReadonlySet<string> = new Set([
  'collections.OrderedDict',
  'torch._utils._rebuild_tensor_v2',
  'torch._utils._rebuild_parameter',
  'torch.Size',
])
/** Names that are values: dtypes. */
const DTYPE = /^torch\.(float|double|half|bfloat|int|uint|bool|long|short)\w*$/

interface Global {
  readonly kind: 'global'
  readonly name: string
}
interface Storage {
  readonly kind: 'storage'
  readonly dtype: string
  readonly key: string
  readonly length: number
}
const MARK: unique symbol = Symbol('mark')
type Item = PickleValue | Global | Storage | typeof MARK

/** The value of a pickle. Throws FileError for anything but data. */
export function unpickle(bytes: Uint8Array, file: string): PickleValue {
  return new Unpickler(bytes, file).run()
}

/** Several pickles in a row, the dtypes of all storages that they name, and where the last one ends. */
export function unpickleSequence(
  bytes: Uint8Array,
  file: string,
  count: number,
): { values: PickleValue[]; storages: ReadonlyMap<string, string>; end: number } {
  const storages = new Map<string, string>()
  const values: PickleValue[] = []
  let end = 0
  for (let i = 0; i < count; i++) {
    const one = new Unpickler(bytes.subarray(end), file, storages)
    values.push(one.run())
    end += one.at
  }
  return { values, storages, end }
}

/** The machine that the opcodes drive. */
export class Unpickler {
  private readonly storages: Map<string, string>
  private readonly bytes: Uint8Array
  private readonly view: DataView
  private readonly file: string
  private readonly stack: Item[] = []
  private readonly memo = new Map<number, Item>()
  at = 0

  constructor(bytes: Uint8Array, file: string, storages: Map<string, string> = new Map()) {
    this.storages = storages
    this.bytes = bytes
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.file = file
  }

  run(): PickleValue {
    for (;;) {
      const at = this.at
      const code = this.take(1)[0]
      if (code === 0x2e) return this.value(this.pop()) // STOP
      const step = OPCODES[code]
      if (!step) this.refuse(`opcode 0x${code.toString(16).padStart(2, '0')} at byte ${at} is not data`)
      step(this)
      if (this.stack.length > MAX_STACK) this.refuse(`it holds more than ${MAX_STACK} values at once`)
    }
  }

  refuse(problem: string, fields: Record<string, unknown> = {}): never {
    throw new FileError(`Cannot read "${this.file}": ${problem}`, {
      file: this.file,
      hint: 'fewbit reads tensors out of pickles and runs nothing; convert the model to safetensors where you trust the file',
      ...fields,
    })
  }

  take(count: number): Uint8Array {
    if (!(count >= 0 && this.at + count <= this.bytes.length)) this.refuse('its pickle is cut off')
    this.at += count
    return this.bytes.subarray(this.at - count, this.at)
  }

  number(bytes: 1 | 2 | 4): number {
    this.take(bytes)
    const at = this.at - bytes
    if (bytes === 1) return this.view.getUint8(at)
    return bytes === 2 ? this.view.getUint16(at, true) : this.view.getUint32(at, true)
  }

  signed(): number {
    this.take(4)
    return this.view.getInt32(this.at - 4, true)
  }

  float(): number {
    this.take(8)
    return this.view.getFloat64(this.at - 8)
  }

  length8(): number {
    this.take(8)
    return Number(this.view.getBigUint64(this.at - 8, true))
  }

  text(length: number): string {
    return new TextDecoder().decode(this.take(length))
  }

  line(): string {
    const end = this.bytes.indexOf(0x0a, this.at)
    if (end < 0) this.refuse('its pickle is cut off')
    const text = new TextDecoder().decode(this.bytes.subarray(this.at, end))
    this.at = end + 1
    return text
  }

  push(item: Item): void {
    this.stack.push(item)
  }

  mark(): void {
    this.stack.push(MARK)
  }

  pop(): Item {
    const item = this.stack.pop()
    if (item === undefined) this.refuse('its pickle takes a value from an empty stack')
    return item
  }

  /** The last `count` items, in order. */
  last(count: number): Item[] {
    if (this.stack.length < count) this.refuse('its pickle takes a value from an empty stack')
    return this.stack.splice(-count)
  }

  top(): Item {
    const item = this.stack.at(-1)
    if (item === undefined) this.refuse('its pickle takes a value from an empty stack')
    return item
  }

  /** The items above the last mark. */
  marked(): Item[] {
    const from = this.stack.lastIndexOf(MARK)
    if (from < 0) this.refuse('its pickle lacks a mark')
    const items = this.stack.splice(from)
    return items.slice(1)
  }

  /** A value that is data: a name or a storage alone is none. */
  value(item: Item): PickleValue {
    if (item === MARK || (typeof item === 'object' && item !== null && 'kind' in item && item.kind === 'storage'))
      this.refuse('its pickle uses a mark or a storage as a value')
    if (typeof item === 'object' && item !== null && 'kind' in item && item.kind === 'global') {
      const { name } = item as Global
      if (!DTYPE.test(name)) this.refuse(`it uses "${name}" as a value`, { name })
      return { kind: 'name', name }
    }
    return item as PickleValue
  }

  put(key: number): void {
    this.memo.set(key, this.top())
  }

  memoize(): void {
    this.memo.set(this.memo.size, this.top())
  }

  get(key: number): void {
    const item = this.memo.get(key)
    if (item === undefined) this.refuse(`its pickle asks for value ${key}, which is not there`)
    this.push(item)
  }

  global(module: string, name: string): void {
    const full = `${module}.${name}`
    if (!CALLABLE.has(full) && !(full in STORAGES) && !DTYPE.test(full))
      this.refuse(`it asks for "${full}", which is no tensor`, { name: full })
    this.push({ kind: 'global', name: full })
  }

  persistent(): void {
    const id = this.pop()
    const [tag, type, key, , length] = Array.isArray(id) ? (id as Item[]) : []
    const name = typeof type === 'object' && type !== null && 'kind' in type && type.kind === 'global' ? type.name : ''
    const dtype = STORAGES[name]
    if (tag !== 'storage' || dtype === undefined || typeof key !== 'string' || typeof length !== 'number')
      this.refuse('it refers to something that is no storage', { name })
    this.storages.set(key, dtype)
    this.push({ kind: 'storage', dtype, key, length })
  }

  reduce(): void {
    const args = this.pop()
    const called = this.pop()
    const name =
      typeof called === 'object' && called !== null && 'kind' in called && called.kind === 'global' ? called.name : ''
    if (!CALLABLE.has(name) || !Array.isArray(args)) this.refuse(`it calls "${name || 'a value'}"`, { name })
    this.push(this.result(name, args as Item[]))
  }

  private result(name: string, args: Item[]): Item {
    switch (name) {
      case 'collections.OrderedDict':
        return this.dictOf(args[0])
      case 'torch.Size':
        return this.sizes(args[0])
      case 'torch._utils._rebuild_parameter':
        return this.value(args[0])
      default:
        return this.tensor(args)
    }
  }

  private dictOf(pairs: Item | undefined): PickleDict {
    const dict: PickleDict = new Map()
    if (pairs === undefined) return dict
    for (const pair of Array.isArray(pairs) ? pairs : this.refuse('an OrderedDict in it has no pairs')) {
      if (!Array.isArray(pair) || pair.length !== 2) this.refuse('an OrderedDict in it has no pairs')
      dict.set(pair[0], pair[1])
    }
    return dict
  }

  private sizes(item: Item | undefined): number[] {
    const legal =
      Array.isArray(item) &&
      item.length <= MAX_RANK &&
      item.every((n) => typeof n === 'number' && Number.isSafeInteger(n) && n >= 0)
    return legal ? (item as number[]) : this.refuse('a shape in it is no list of sizes')
  }

  private tensor([storage, offset, shape, stride]: Item[]): TorchTensor {
    if (typeof storage !== 'object' || storage === null || !('kind' in storage) || storage.kind !== 'storage')
      this.refuse('a tensor in it has no storage')
    const { key, dtype, length } = storage as Storage
    const [sizes, steps] = [this.sizes(shape), this.sizes(stride)]
    if (typeof offset !== 'number' || !(offset >= 0) || steps.length !== sizes.length)
      this.refuse('a tensor in it has strides that do not fit its shape')
    const last = sizes.includes(0) ? -1 : sizes.reduce((at, n, i) => at + (n - 1) * steps[i], offset)
    if (!(last < length)) this.refuse(`a tensor in it ends at element ${last}, its storage has ${length}`)
    return { kind: 'tensor', storage: key, dtype, length, offset, shape: sizes, stride: steps }
  }

  /** `__setstate__` of an OrderedDict holds attributes such as _metadata: they say nothing about tensors. */
  build(): void {
    this.pop()
    if (!(this.top() instanceof Map)) this.refuse('it sets the state of something that is no dictionary')
  }

  setItems(items: Item[]): void {
    const dict = this.top()
    if (!(dict instanceof Map) || items.length % 2 !== 0)
      this.refuse('it sets items of something that is no dictionary')
    for (let i = 0; i < items.length; i += 2) dict.set(this.value(items[i]), this.value(items[i + 1]))
  }

  append(items: Item[]): void {
    const list = this.top()
    if (!Array.isArray(list)) this.refuse('it appends to something that is no list')
    for (const item of items) list.push(this.value(item))
  }

  /** A tuple may hold what is no value by itself: the parts of a storage's id. */
  tuple(items: Item[]): void {
    this.push(items as PickleValue[])
  }

  long(length: number): void {
    if (length > MAX_LONG) this.refuse(`it holds a whole number of ${length} bytes`)
    const bytes = this.take(length)
    let value = 0n
    for (let i = bytes.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i])
    if (bytes.length > 0 && bytes[bytes.length - 1] > 127) value -= 1n << BigInt(8 * bytes.length)
    const small = Number(value)
    this.push(Number.isSafeInteger(small) ? small : value)
  }

  stackGlobal(): void {
    const name = this.pop()
    const module = this.pop()
    if (typeof name !== 'string' || typeof module !== 'string') this.refuse('its pickle names something without a name')
    this.global(module, name)
  }
}

/** Longest integer taken: real ones have at most nine bytes. */
const MAX_LONG = 32
