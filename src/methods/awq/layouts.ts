// The layouts of an AWQ linear in a file: which weights each takes, and the names, dtypes and shapes of its tensors.
import { PACKINGS } from '../../weights/packing.ts'
import type { TensorSpec } from '../types.ts'
import type { AwqSettings, AwqVersion } from './config.ts'

/** What inputs and outputs must be multiples of, for the files of each version. */
const UNITS: Readonly<Record<AwqVersion, { inputs: number; outputs: number; groups?: readonly number[] }>> = {
  gemm: { inputs: 1, outputs: 8 }, // other widths than 4 take any number
  gemv: { inputs: 8, outputs: 1, groups: [32, 64] },
  gemv_fast: { inputs: 64, outputs: 4, groups: [32, 64] },
  'llm-awq': { inputs: 64, outputs: 4, groups: [32, 64] },
}

export type Layout = Pick<AwqSettings, 'bits' | 'group' | 'version'>

/** Packings of gemm by width. */
export const GEMM = { 2: PACKINGS.awqGemm2, 3: PACKINGS.awqGemm3, 4: PACKINGS.awqGemm, 8: PACKINGS.awqGemm8 } as const

/** Why a weight [N, K] cannot be stored so, or undefined. */
export function layoutProblem([n, k]: readonly number[], { bits, group, version }: Layout): string | undefined {
  const { inputs, groups } = UNITS[version]
  const outputs = bits === 4 ? UNITS[version].outputs : 1
  if (k % group !== 0) return `its ${k} inputs are no multiple of the group size ${group}`
  if (k % inputs !== 0) return `its ${k} inputs are no multiple of ${inputs}, which ${version} needs`
  if (n % outputs !== 0) return `its ${n} outputs are no multiple of ${outputs}, which ${version} needs`
  if (groups && group < 128 && !groups.includes(group))
    return `${version} has groups of 32, 64, 128 and more, not ${group}`
  return undefined
}

/** Rows of the padded scales of gemv and its successors, in eights. */
export function paddedGroups(k: number, group: number): number {
  const multiple = group >= 128 ? 1 : group === 64 ? 2 : 4
  return 8 * Math.ceil(Math.ceil(Math.floor(k / group) / 8) / multiple) * multiple
}

/** Names, dtypes and shapes of the stored tensors. */
export function specs(module: string, [n, k]: readonly number[], { bits, group, version }: Layout): TensorSpec[] {
  const groups = k / group
  const padded = version === 'gemm' ? 0 : paddedGroups(k, group)
  const spec = (suffix: string, dtype: string, ...shape: number[]) => ({ name: `${module}.${suffix}`, dtype, shape })
  if (version === 'gemm') {
    const words = Math.ceil((n * bits) / 32)
    return [spec('qweight', 'I32', k, words), spec('qzeros', 'I32', groups, words), spec('scales', 'F16', groups, n)]
  }
  if (version === 'gemv')
    return [spec('qweight', 'I32', n, k / 8), spec('qzeros', 'I32', n, padded / 8), spec('scales', 'F16', n, padded)]
  const zeros = version === 'llm-awq' ? 'scaled_zeros' : 'qzeros'
  return [spec('qweight', 'I16', n / 4, k), spec(zeros, 'F16', padded, n), spec('scales', 'F16', padded, n)]
}

/** gemv_fast and llm-awq: codes in 16-bit words, zeros as shifts, scales [G, N]. */
export function isFast(version: AwqVersion): boolean {
  return version === 'gemv_fast' || version === 'llm-awq'
}
