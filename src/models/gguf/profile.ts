// What a family says of its GGUF files: the architecture's name, its key-values in both directions, and tensors beside the weights.
import { type GgufKeys, type GgufValue, ggufF32, ggufString, ggufU32 } from '../../checkpoint/gguf/metadata.ts'
import type { Checkpoint } from '../../checkpoint/types.ts'
import type { JsonObject, PlainObject } from '../../core/json.ts'
import type { ModelConfig } from '../model-config.ts'

/** A file as a family reads it: keys below the architecture's name, and the tensor table. */
export interface GgufHeader {
  readonly architecture: string
  readonly checkpoint: Checkpoint
  readonly keys: GgufKeys
  /** A number; undefined where the key is missing. */
  number(key: string): number | undefined
  /** A number. Throws FileError where the key is missing. */
  need(key: string): number
}

export interface GgufProfile<C extends ModelConfig = ModelConfig> {
  /** `general.architecture`. */
  readonly architecture: string
  /** True where llama.cpp has no such architecture, so that only fewbit runs the file. */
  readonly isOwn?: boolean
  /** The config.json that the file's metadata stands for, without what every family has (vocabulary, tie, special ids). */
  readConfig(header: GgufHeader): PlainObject | Promise<PlainObject>
  /** Settles what tensors and not keys say: rope factors. */
  refine?(config: C, checkpoint: Checkpoint): Promise<C>
  /** Writes the keys that the converter finds while it makes tensors: they come right after the architecture. */
  writeFirst?(keys: ArchitectureKeys<C>): void
  /** Writes the architecture's keys and `general.file_type` in the converter's order. */
  writeKeys(keys: ArchitectureKeys<C>): void
  /** Tensors that the converter computes from the config; they precede the weights. */
  generated?(config: C): readonly GeneratedTensor[]
  /** What a file of this config cannot say. */
  losses?(config: C): readonly string[]
}

export interface GeneratedTensor {
  readonly name: string
  readonly values: Float32Array
}

/** Key-values under an architecture's name, as the converter writes them. */
export class ArchitectureKeys<C extends ModelConfig = ModelConfig> {
  private readonly out: Map<string, GgufValue>
  private readonly architecture: string
  private readonly fileTypeId: number
  readonly config: C
  readonly json: JsonObject

  constructor(out: Map<string, GgufValue>, architecture: string, config: C, json: JsonObject, fileType: number) {
    this.out = out
    this.architecture = architecture
    this.config = config
    this.json = json
    this.fileTypeId = fileType
  }

  bool(key: string, value: boolean): void {
    this.set(key, { type: 'bool', value })
  }

  u32(key: string, value: number): void {
    this.set(key, ggufU32(value))
  }

  f32(key: string, value: number): void {
    this.set(key, ggufF32(value))
  }

  string(key: string, value: string): void {
    this.set(key, ggufString(value))
  }

  /** Puts `general.file_type` here. */
  fileType(): void {
    this.out.set('general.file_type', ggufU32(this.fileTypeId))
  }

  private set(key: string, value: GgufValue): void {
    this.out.set(`${this.architecture}.${key}`, value)
  }
}
