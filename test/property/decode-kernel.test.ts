// decodeWith: the compiled decoders give exactly the values of decode(), for every scheme, grouping, arithmetic and target, on both doors.
import { expect, test } from 'vitest'
import { type FloatDType, rawTensor } from '../../src/core/dtypes.ts'
import { fromFloat32 } from '../../src/core/half.ts'
import { decodeWith } from '../../src/weights/decode-kernel.ts'
import {
  type AdditiveScheme,
  type AffineScheme,
  type Grouping,
  groupCount,
  type Scheme,
} from '../../src/weights/scheme.ts'
import { decode, denseWeight, type QuantizedWeight } from '../../src/weights/weight.ts'
import { DOORS } from '../support/doors.ts'

/** More elements than a unit of the kernels, in rows that no unit is a multiple of. */
const [N, K] = [37, 256]

function random(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
}

const next = random(7)
const bytes = (count: number, below = 256) => Uint8Array.from({ length: count }, () => Math.floor(next() * below))
const floats = (count: number) => Float32Array.from({ length: count }, () => next() * 2 - 1)

function affine(group: Grouping, zero: AffineScheme['zero'], dtype: FloatDType = 'F32'): QuantizedWeight {
  const count = groupCount(group, N, K)
  const part = () => rawTensor(dtype, [count], fromFloat32(floats(count), dtype))
  return {
    scheme: { kind: 'affine', bits: 4, group, zero },
    shape: [N, K],
    parts: {
      codes: rawTensor('U8', [N, K], bytes(N * K, 16)),
      scale: part(),
      ...(typeof zero === 'string' ? { [zero]: part() } : {}),
    },
  }
}

function lookup(nested: boolean): QuantizedWeight {
  const group: Grouping = { kind: 'flat', size: 64 }
  const count = groupCount(group, N, K)
  const scales: QuantizedWeight['parts'] = nested
    ? {
        scaleCodes: rawTensor('U8', [count], bytes(count)),
        nestedScale: rawTensor('F32', [Math.ceil(count / 32)], floats(Math.ceil(count / 32))),
        nestedTable: rawTensor('F32', [256], floats(256)),
        nestedOffset: rawTensor('F32', [1], floats(1)),
      }
    : { scale: rawTensor('F32', [count], floats(count)) }
  return {
    scheme: { kind: 'lookup', bits: 4, table: 'nf4', group, ...(nested ? { nestedSize: 32 } : {}) } as Scheme,
    shape: [N, K],
    parts: { codes: rawTensor('U8', [N, K], bytes(N * K, 16)), ...scales },
  }
}

function additive(bits: number, codebooks: number, group: AdditiveScheme['group'], dtype: FloatDType): QuantizedWeight {
  const [rows, groups] = [(N - (N % group.out)) / group.out, K / group.in]
  const codes = Array.from({ length: rows * groups * codebooks }, () => Math.floor(next() * 2 ** bits))
  const shape = [codebooks, 2 ** bits, group.out, group.in]
  const entries = codebooks * 2 ** bits * group.out * group.in
  return {
    scheme: { kind: 'additive', bits, codebooks, group },
    shape: [rows * group.out, K],
    parts: {
      codes:
        bits <= 8
          ? rawTensor('U8', [rows, groups, codebooks], Uint8Array.from(codes))
          : rawTensor('U16', [rows, groups, codebooks], Uint16Array.from(codes)),
      codebooks: rawTensor(dtype, shape, fromFloat32(floats(entries), dtype)),
      scale: rawTensor(dtype, [rows], fromFloat32(floats(rows), dtype)),
    },
  }
}

const int8: QuantizedWeight = {
  scheme: {
    kind: 'affine',
    bits: 8,
    group: { kind: 'flat', size: K },
    zero: 128,
    activations: { kind: 'int8', outlierThreshold: 6 },
  },
  shape: [N, K],
  parts: {
    codes: rawTensor('U8', [N, K], bytes(N * K)),
    scale: rawTensor('F32', [N], floats(N)),
    scb: rawTensor('F32', [N], floats(N)),
  },
}

const WEIGHTS: readonly (readonly [string, QuantizedWeight])[] = [
  ['affine, groups of a row, a number as zero', affine({ kind: 'flat', size: 32 }, 8)],
  ['affine, groups that cross rows, zero points', affine({ kind: 'flat', size: 37 }, 'zeroPoint')],
  ['affine, strided, shifts', affine({ kind: 'strided', size: 64 }, 'shift')],
  ['affine, one group, f16 scale', affine({ kind: 'tensor', size: N * K }, 'zeroPoint', 'F16')],
  ['affine, bf16 scales and shifts', affine({ kind: 'flat', size: 64 }, 'shift', 'BF16')],
  ['LLM.int8', int8],
  ['NF4', lookup(false)],
  ['NF4, nested scales', lookup(true)],
  ['additive 2x8 g8, bf16', additive(8, 2, { out: 1, in: 8 }, 'BF16')],
  ['additive 1x12 g16, f16', additive(12, 1, { out: 1, in: 16 }, 'F16')],
  ['additive 3x5, groups of 2 x 4, f32', additive(5, 3, { out: 2, in: 4 }, 'F32')],
  ['dense f16', denseWeight(rawTensor('F16', [N, K], fromFloat32(floats(N * K), 'F16')))],
  ['dense f32', denseWeight(rawTensor('F32', [N, K], floats(N * K)))],
]

const TARGETS: readonly FloatDType[] = ['F32', 'F16', 'BF16']

for (const [door, kernels] of DOORS)
  test.each(WEIGHTS)(`${door}: %s`, async (_name, weight) => {
    for (const target of TARGETS)
      for (const arithmetic of TARGETS) {
        const found = await decodeWith(kernels, weight, target, arithmetic)
        const expected = fromFloat32(decode(weight, 0, weight.shape[0] * K, arithmetic), target)
        expect(Buffer.from(found.data).equals(expected), `${target} by ${arithmetic}`).toBe(true)
      }
  })
