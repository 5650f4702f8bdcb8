// GGUF tensors <-> QuantizedWeight: Q4_0 to Q8_0 become affine codes and scales, the K types keep their blocks; both ways exact.
import { type DType, elementCount, rawTensor } from '../../core/dtypes.ts'
import { BugError, FileError } from '../../core/errors.ts'
import type { QuantizerKernels } from '../../core/kernels.ts'
import {
  affineBlockBytes,
  isAffineBlockType,
  packAffineBlocks,
  unpackAffineBlocks,
} from '../../weights/affine-blocks.ts'
import { isSuperblockType, SUPERBLOCKS, superblockBytes } from '../../weights/superblock/index.ts'
import { part, type QuantizedWeight } from '../../weights/weight.ts'
import type { NamedTensor, StoredLayout, StoredReader } from '../types.ts'
import type { Gguf, GgufSettings } from './config.ts'
import { packWithKernels, unpackWithKernels } from './kernels.ts'

async function write(
  name: string,
  weight: QuantizedWeight,
  { type }: GgufSettings,
  kernels?: QuantizerKernels,
): Promise<NamedTensor[]> {
  const data = await blockBytes(type, weight, kernels)
  return [{ name, tensor: { dtype: type as DType, shape: weight.shape, data } }]
}

/** A weight as the bytes of its GGUF tensor. */
export async function blockBytes(
  type: string,
  weight: QuantizedWeight,
  kernels?: QuantizerKernels,
): Promise<Uint8Array> {
  if (isAffineBlockType(type)) return kernels ? packWithKernels(kernels, type, weight) : packAffineBlocks(type, weight)
  return part(weight, isSuperblockType(type) ? 'blocks' : 'values').data
}

function isStored(name: string, reader: StoredReader<Gguf>): boolean {
  const type = reader.dtypeOf(name) ?? ''
  return isAffineBlockType(type) || isSuperblockType(type)
}

async function read(name: string, shape: readonly number[], reader: StoredReader<Gguf>): Promise<QuantizedWeight> {
  const { dtype, data } = await reader.read(name)
  const type: string = dtype
  const count = elementCount(shape)
  if (isAffineBlockType(type)) checkSize(name, type, shape, data, (count / 32) * affineBlockBytes(type))
  else if (isSuperblockType(type))
    checkSize(name, type, shape, data, (count / SUPERBLOCKS[type].elements) * superblockBytes(type))
  else throw new FileError(`Cannot read "${name}": fewbit does not decode ${type}`, { tensor: name })
  return weightOfBlocks(type, shape, data, reader.kernels)
}

/** The weight [N, K] whose blocks of `type` are `data`. */
export async function weightOfBlocks(
  type: string,
  shape: readonly number[],
  data: Uint8Array,
  kernels?: QuantizerKernels,
): Promise<QuantizedWeight> {
  if (isAffineBlockType(type))
    return kernels ? unpackWithKernels(kernels, type, shape, data) : unpackAffineBlocks(type, shape, data)
  if (!isSuperblockType(type)) throw new BugError(`weightOfBlocks: ${type} is no type of blocks`, { type })
  const rows = elementCount(shape.slice(0, -1))
  return {
    scheme: { kind: 'superblock', type },
    shape,
    parts: { blocks: rawTensor('U8', [rows, data.length / rows], data) },
  }
}

function checkSize(name: string, type: string, shape: readonly number[], data: Uint8Array, expected: number): void {
  if (data.length !== expected)
    throw new FileError(`Cannot read "${name}": ${data.length} bytes, ${type} [${shape}] takes ${expected}`, {
      tensor: name,
      expected,
      actual: data.length,
    })
}

export const stored: StoredLayout<Gguf, GgufSettings> = {
  suffixes: [],
  write,
  outputs: ({ name, shape }, { type }) => [{ name, dtype: type, shape }],
  isStored,
  read,
}
