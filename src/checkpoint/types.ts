// Containers: bytes <-> named tensors. Everything is read by range, from a file handle or a Blob; nothing is held twice.
import type { JsonObject } from '../core/json.ts'

/** Random access to the bytes of one file. */
export interface ByteSource {
  readonly name: string
  readonly size: number
  /** Time of the last change, where there is one: tells a file from an earlier one of the same size. */
  readonly modifiedMs?: number
  /** Exactly `length` bytes; throws FileError where the file is shorter. They may lie in `into`, where it is long enough. */
  read(offset: number, length: number, into?: Uint8Array): Promise<Uint8Array>
  close(): Promise<void>
}

/** A model's files: a folder, or a single file. Names never contain a path separator. */
export interface FileSet {
  /** What the user typed, for messages. */
  readonly name: string
  /** The file that was meant where a file was given; its siblings can be opened too (shards). */
  readonly single?: string
  list(): Promise<readonly string[]>
  has(name: string): Promise<boolean>
  open(name: string): Promise<ByteSource>
  /** A folder inside, where the set has folders and this one is there. */
  folder?(name: string): Promise<FileSet | undefined>
}

/** Name, dtype, shape, and where the bytes are; nothing is read yet. `dtype` is safetensors' spelling, or ggml's for GGUF types. */
export interface StoredTensor {
  readonly name: string
  readonly dtype: string
  /** Row-major, slowest first, for both containers (GGUF's own order is reversed on reading). */
  readonly shape: readonly number[]
  readonly file: string
  readonly offset: number
  readonly byteLength: number
}

/** An opened checkpoint. */
export interface Checkpoint {
  readonly format: 'safetensors' | 'gguf'
  /** Files of torch.save, with the names and dtypes of safetensors. */
  readonly container?: 'torch'
  readonly files: FileSet
  /** In file order (shards in order of the index). */
  readonly tensors: ReadonlyMap<string, StoredTensor>
  /** config.json (safetensors), or null. */
  readonly config: JsonObject | null
  /** GGUF key-values in order (`GgufValue`, see gguf/metadata.ts; GgufKeys looks them up), or safetensors' `__metadata__` of the first file. */
  readonly metadata: ReadonlyMap<string, unknown>
  /** What is odd but does no harm, for people. */
  readonly warnings: readonly string[]
  /** All bytes of one tensor, or the range [from, to) of them. They may lie in `into`, where it is long enough. */
  read(tensor: StoredTensor, from?: number, to?: number, into?: Uint8Array): Promise<Uint8Array>
  close(): Promise<void>
}

/** One output file being written under a temporary name. */
export interface ByteSink {
  write(bytes: Uint8Array): Promise<void>
  writeAt(offset: number, bytes: Uint8Array): Promise<void>
  /** Flushes to disk (fsync) and closes. */
  close(): Promise<void>
}

/** A file for values that do not fit into memory; gone with the process. */
export interface ScratchFile {
  write(offset: number, bytes: Uint8Array): Promise<void>
  read(offset: number, length: number): Promise<Uint8Array>
  remove(): Promise<void>
}

export interface ScratchStore {
  create(): Promise<ScratchFile>
}

/** One line of a journal: flat, or nested, plain data. */
export type JournalEntry = { readonly [key: string]: unknown }

/** What has been done so far, kept beside the partial output so that a killed run can go on. */
export interface Journal {
  /** Entries of the interrupted run of the same work, oldest first; empty where the work starts anew. */
  readonly entries: readonly JournalEntry[]
  /** True where partial data of other work (another source, config or version) was found and dropped. */
  readonly discarded: boolean
  append(entry: JournalEntry): Promise<void>
}

/** An output folder (or single file) that appears under its final name only on commit. */
export interface OutputStore {
  /** The final path. */
  readonly name: string
  /** The file's name where the output is one file; files of other names, which it is split into, appear beside it in its stead. */
  readonly single?: string
  /** Where partial data lies, for messages. */
  readonly partial: string
  /** Starts or resumes the work that `key` identifies; files of other work are dropped. Without a journal every run starts anew. */
  journal(key: string): Promise<Journal>
  /** Throws where `file`, one of those that a single output is split into, would replace another without `force`. */
  assertFree?(file: string): Promise<void>
  create(file: string): Promise<ByteSink>
  /** Opens a file for writing on, keeping what it holds. */
  resume(file: string): Promise<ByteSink>
  /** Opens what was written so far under this store, for assembling. */
  reopen(file: string): Promise<ByteSource>
  remove(file: string): Promise<void>
  /** Room for values on the way to the output; removed with what an interrupted run left, and on commit. */
  readonly scratch?: ScratchStore
  /** Running CRC-32 over what is written, to check it when a run is resumed. */
  checksum(bytes: Uint8Array, before?: number): number
  /** Renames to the final name; replaces an existing one only with `force`, and then whole or not at all. */
  commit(): Promise<void>
  /** Gives the lock back and keeps the partial data for a later run. */
  release(): Promise<void>
  /** Removes everything that was written. */
  abort(): Promise<void>
}
