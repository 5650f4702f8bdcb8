// Reading the golden data of test/fixtures: whole safetensors files as tensors, JSON as it stands.
import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { readSafetensorsHeader } from '../../src/checkpoint/safetensors.ts'
import type { ByteSource } from '../../src/checkpoint/types.ts'
import { type DType, type RawTensor, rawTensor } from '../../src/core/dtypes.ts'

/** Path of a file or folder of test/fixtures. */
export function fixture(path: string): string {
  return resolve(import.meta.dirname, '../fixtures', path)
}

/** Bytes in memory as a ByteSource. */
export function bytesSource(name: string, bytes: Uint8Array): ByteSource {
  return {
    name,
    size: bytes.length,
    read: async (offset, length) => bytes.subarray(offset, offset + length),
    close: async () => {},
  }
}

/** All tensors of a safetensors file, by name. */
export async function fixtureTensors(path: string): Promise<Map<string, RawTensor>> {
  const bytes = new Uint8Array(await readFile(fixture(path)))
  const { tensors } = await readSafetensorsHeader(bytesSource(path, bytes))
  return new Map(
    tensors.map((t) => [t.name, rawTensor(t.dtype as DType, t.shape, bytes.slice(t.offset, t.offset + t.byteLength))]),
  )
}

/** A JSON file of test/fixtures. */
export async function fixtureJson<T>(path: string): Promise<T> {
  return JSON.parse(await readFile(fixture(path), 'utf8')) as T
}
