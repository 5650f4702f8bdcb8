// Stored tensors of a bitsandbytes 4-bit linear: packed codes, absmax, table, and the quant_state JSON.
import { rawTensor, torchName } from '../../core/dtypes.ts'
import { FileError } from '../../core/errors.ts'
import { PACKINGS, pack, unpack } from '../../weights/packing.ts'
import type { LookupScheme } from '../../weights/scheme.ts'
import { LOOKUP_TABLES } from '../../weights/tables.ts'
import { part, type QuantizedWeight } from '../../weights/weight.ts'
import type { NamedTensor, StoredLayout, StoredReader } from '../types.ts'
import type { BitsAndBytes, BitsAndBytesSettings } from './config.ts'

const STATE = '.quant_state.bitsandbytes__'

function write(name: string, weight: QuantizedWeight, _settings: BitsAndBytesSettings): NamedTensor[] {
  const scheme = weight.scheme as LookupScheme
  const count = weight.shape[0] * weight.shape[1]
  const codes = part(weight, 'codes').data
  const packed = pack(PACKINGS.bnb4, codes, 1, count, scheme.table === 'nf4' ? 7 : 0)
  const dtype = torchName('BF16')
  const state = `{"quant_type": "${scheme.table}", "blocksize": ${scheme.group.size}, "dtype": "${dtype}", "shape": [${weight.shape.join(', ')}]}`
  const bytes = new TextEncoder().encode(state)
  return [
    { name, tensor: rawTensor('U8', [packed.length, 1], packed) },
    { name: `${name}.absmax`, tensor: part(weight, 'scale') },
    { name: `${name}.quant_map`, tensor: rawTensor('F32', [16], LOOKUP_TABLES[scheme.table]) },
    { name: `${name}${STATE}${scheme.table}`, tensor: rawTensor('U8', [bytes.length], bytes) },
  ]
}

async function read(
  name: string,
  shape: readonly number[],
  reader: StoredReader<BitsAndBytes>,
): Promise<QuantizedWeight> {
  const table = reader.has(`${name}${STATE}nf4`) ? 'nf4' : 'fp4'
  const packed = await reader.read(name)
  const count = shape[0] * shape[1]
  if (packed.data.length !== Math.ceil(count / 2)) {
    throw new FileError(
      `Cannot read "${name}": ${packed.data.length} packed bytes, expected ${Math.ceil(count / 2)} for [${shape}]`,
      { tensor: name },
    )
  }
  const codes = unpack(PACKINGS.bnb4, packed.data, 1, count)
  return {
    scheme: { kind: 'lookup', bits: 4, table, group: { kind: 'flat', size: 64 } },
    shape,
    parts: { codes: rawTensor('U8', shape, codes), scale: await reader.read(`${name}.absmax`) },
  }
}

export const stored: StoredLayout<BitsAndBytes, BitsAndBytesSettings> = {
  suffixes: ['.weight.absmax', '.weight.quant_map', `.weight${STATE}nf4`, `.weight${STATE}fp4`],
  write,
  isStored: (name, reader) => reader.has(`${name}.absmax`),
  read,
}
