// Quantises one weight: finds what has no code and refuses it by name, and lays the codes and scales out as a QuantizedWeight.
import { elementCount, type FloatDType, type RawTensor, rawTensor } from '../../core/dtypes.ts'
import { BugError, WeightError } from '../../core/errors.ts'
import { toFloat32 } from '../../core/half.ts'
import { dynamicMap } from '../../weights/tables.ts'
import type { QuantizedWeight } from '../../weights/weight.ts'
import type { QuantizeInput, QuantizerKernels } from '../types.ts'
import { type BitsAndBytesSettings, NESTED_BLOCK_SIZE, type Settings4bit, type SettingsInt8 } from './config.ts'
import { run4bit, runInt8, runNested } from './kernels.ts'
import { quantize4bit, quantizeAbsmax, quantizeInt8 } from './oracle.ts'

/** Largest float that float16 rounding keeps finite. */
const F16_OVERFLOW = 65520

/** Throws WeightError at the first element that has no finite value; the reference would write garbage in silence. */
function assertFinite(name: string, x: Float32Array, limit: number): void {
  for (let i = 0; i < x.length; i++) {
    if (Math.abs(x[i]) < limit) continue
    const problem = Number.isFinite(x[i]) ? `${x[i]}, beyond float16's 65504` : `${x[i]}`
    throw new WeightError(`Cannot quantise "${name}": element ${i} is ${problem}`, {
      tensor: name,
      index: i,
      actual: x[i],
      hint: 'the checkpoint may be damaged: check it with the tool that made it, or leave this module float',
    })
  }
}

/** Throws the error of the first bad element where `found` says that there is one. */
function assertCodes(name: string, x: Float32Array, limit: number, found: boolean): void {
  if (!found) return
  assertFinite(name, x, limit)
  throw new BugError(`The quantiser of "${name}" found a value without a code, which its input does not hold`)
}

/** Quantises one weight; by `input.kernels` where they are given. Throws WeightError naming the tensor and the element. */
export async function quantize(input: QuantizeInput<BitsAndBytesSettings>): Promise<QuantizedWeight> {
  const { name, tensor, settings, kernels } = input
  if (elementCount(tensor.shape) === 0)
    throw new WeightError(`Cannot quantise "${name}": it is empty`, { tensor: name })
  const x = kernels ? kernels.toFloat32(tensor) : toFloat32(tensor)
  switch (settings.kind) {
    case '4bit':
      return quantize4bitWeight(name, x, tensor, settings, kernels)
    case 'int8':
      return quantizeInt8Weight(name, x, tensor, settings, kernels)
    default:
      return settings satisfies never
  }
}

async function quantize4bitWeight(
  name: string,
  x: Float32Array,
  { shape, dtype }: RawTensor,
  settings: Settings4bit,
  kernels: QuantizerKernels | undefined,
): Promise<QuantizedWeight> {
  const { blockSize, quantType } = settings
  const { codes, absmax } = kernels
    ? await run4bit(kernels, x, blockSize, quantType)
    : quantize4bit(x, blockSize, quantType)
  assertCodes(name, x, Infinity, !absmax.every(Number.isFinite))
  const scheme = {
    kind: 'lookup',
    bits: 4,
    table: quantType,
    group: { kind: 'flat', size: blockSize },
    original: dtype as FloatDType,
  } as const
  const codesPart = rawTensor('U8', shape, codes)
  if (!settings.doubleQuant)
    return { scheme, shape, parts: { codes: codesPart, scale: rawTensor('F32', [absmax.length], absmax) } }
  const nested = kernels ? await runNested(kernels, absmax) : quantizeAbsmax(absmax)
  return {
    scheme: { ...scheme, nestedSize: NESTED_BLOCK_SIZE },
    shape,
    parts: {
      codes: codesPart,
      scaleCodes: rawTensor('U8', [nested.codes.length], nested.codes),
      nestedScale: rawTensor('F32', [nested.nestedAbsmax.length], nested.nestedAbsmax),
      nestedTable: rawTensor('F32', [256], dynamicMap()),
      nestedOffset: rawTensor('F32', [1], Float32Array.of(nested.offset)),
    },
  }
}

async function quantizeInt8Weight(
  name: string,
  x: Float32Array,
  { shape }: RawTensor,
  settings: SettingsInt8,
  kernels: QuantizerKernels | undefined,
): Promise<QuantizedWeight> {
  if (shape.length !== 2) throw new BugError(`LLM.int8 needs a matrix, "${name}" is [${shape}]`)
  if (!kernels) assertFinite(name, x, F16_OVERFLOW)
  const { codes, scb } = kernels ? await runInt8(kernels, x, shape[0]) : quantizeInt8(x, shape[0])
  assertCodes(name, x, F16_OVERFLOW, !scb.every((a) => a < 65536))
  return int8Weight(shape, codes, scb, settings.outlierThreshold)
}

/** The weight of codes + 128 [N, K] and row absmax [N], with the scale that plain affine kernels use. */
export function int8Weight(
  shape: readonly number[],
  codes: Uint8Array,
  scb: Float32Array,
  outlierThreshold: number,
): QuantizedWeight {
  const inverse127 = Math.fround(1 / 127)
  return {
    scheme: {
      kind: 'affine',
      bits: 8,
      group: { kind: 'flat', size: shape[1] },
      zero: 128,
      activations: { kind: 'int8', outlierThreshold },
    },
    shape,
    parts: {
      codes: rawTensor('U8', shape, codes),
      scb: rawTensor('F32', [scb.length], scb),
      scale: rawTensor(
        'F32',
        [scb.length],
        scb.map((a) => a * inverse127),
      ),
    },
  }
}
