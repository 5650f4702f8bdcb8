// llm-awq's state dictionaries, and folders that have lost their config, say what they are by dtypes and shapes alone.
import { fromPlain, type JsonObject } from '../../core/json.ts'
import type { TensorSpec } from '../types.ts'
import type { AwqVersion } from './config.ts'
import { paddedGroups } from './layouts.ts'

/** Group sizes whose padding differs, the usual one first. */
const PADDED_SIZES = [128, 64, 32]

type Tensors = ReadonlyMap<string, TensorSpec>

interface Found {
  readonly version: AwqVersion
  readonly groupSize: number
  /** A group is a whole row. */
  readonly isWhole: boolean
}

/** The quantization_config of these tensors, all of 4 bits; undefined where they are not AWQ's, or do not agree. */
export function configOfTensors(tensors: Tensors): JsonObject | undefined {
  const modules = [...tensors.keys()].flatMap((name) => (name.endsWith('.qweight') ? name.slice(0, -8) : []))
  const found = modules.map((module) => layoutOf(module, tensors))
  const [first] = found
  if (!first || found.some((one) => one?.version !== first.version)) return undefined
  const isSame = found.every((one) => one!.groupSize === first.groupSize)
  if (!isSame && !found.every((one) => one!.isWhole)) return undefined
  const groupSize = isSame ? first.groupSize : -1
  return { quant_method: 'awq', bits: fromPlain(4), group_size: fromPlain(groupSize), version: first.version }
}

function layoutOf(module: string, tensors: Tensors): Found | undefined {
  const [words, scales] = [tensors.get(`${module}.qweight`)!, tensors.get(`${module}.scales`)]
  const zeros = tensors.get(`${module}.qzeros`) ?? tensors.get(`${module}.scaled_zeros`)
  if (!scales || !zeros || [words, scales, zeros].some(({ shape }) => shape.length !== 2)) return undefined
  const [rows, columns] = words.shape
  const padded = (version: AwqVersion, inputs: number, groups: number): Found | undefined => {
    const groupSize = PADDED_SIZES.find((size) => paddedGroups(inputs, size) === groups)
    return groupSize === undefined ? undefined : { version, groupSize, isWhole: groupSize === inputs }
  }
  if (words.dtype === 'I16')
    return padded(zeros.name.endsWith('.scaled_zeros') ? 'llm-awq' : 'gemv_fast', columns, scales.shape[0])
  if (words.dtype !== 'I32' || zeros.dtype !== 'I32') return undefined
  // GPTQ has these names too, with eight inputs a word: qweight [K/8, N].
  if (8 * columns === scales.shape[1] && scales.shape[0] === zeros.shape[0] && columns === zeros.shape[1]) {
    const groupSize = rows / scales.shape[0]
    return Number.isInteger(groupSize) ? { version: 'gemm', groupSize, isWhole: groupSize === rows } : undefined
  }
  const isGemv = rows === scales.shape[0] && scales.shape[1] === 8 * zeros.shape[1]
  return isGemv ? padded('gemv', 8 * columns, scales.shape[1]) : undefined
}
