// `rope_freqs.weight`: one factor a frequency, which llama.cpp divides by. It is how a llama3 rope is written down in GGUF.
import type { Checkpoint } from '../../checkpoint/types.ts'
import type { DType } from '../../core/dtypes.ts'
import { FileError, UnsupportedError } from '../../core/errors.ts'
import { toFloat32 } from '../../core/half.ts'
import { llama3Keep, plainFrequencies } from '../rope.ts'
import type { RopeConfig } from '../types.ts'

const { fround } = Math

export const ROPE_FACTORS_NAME = 'rope_freqs.weight'

/** The rope with the file's factors, where it has any; its few numbers are the only ones read while planning. */
export async function withRopeFactors(rope: RopeConfig, checkpoint: Checkpoint): Promise<RopeConfig> {
  const tensor = checkpoint.tensors.get(ROPE_FACTORS_NAME)
  if (!tensor) return rope
  const file = checkpoint.files.name
  if (tensor.dtype !== 'F32' || String(tensor.shape) !== String([rope.rotaryDim / 2]))
    throw new FileError(
      `Cannot load "${file}": "${ROPE_FACTORS_NAME}" is ${tensor.dtype} [${tensor.shape.join(', ')}], expected F32 [${rope.rotaryDim / 2}]`,
      { file, tensor: ROPE_FACTORS_NAME, expected: [rope.rotaryDim / 2], actual: tensor.shape },
    )
  const data = await checkpoint.read(tensor)
  const factors = [...toFloat32({ dtype: tensor.dtype as DType, shape: tensor.shape, data })]
  if (!factors.every((f) => f > 0 && Number.isFinite(f)))
    throw new FileError(`Cannot load "${file}": "${ROPE_FACTORS_NAME}" holds a factor that is not above 0`, {
      file,
      tensor: ROPE_FACTORS_NAME,
    })
  const { theta, rotaryDim, maxPositions } = rope
  const base = { theta, rotaryDim, maxPositions, type: 'factors' as const }
  if (rope.type === 'default') return { ...base, factors }
  if (rope.type === 'linear') return { ...base, factors: factors.map((f) => f * rope.factor) }
  throw new UnsupportedError(`Cannot run "${file}": it has both "${ROPE_FACTORS_NAME}" and a ${rope.type} rope`, {
    file,
  })
}

/** The factors [rotaryDim / 2] that a llama3 rope is written down as: 1 for short waves, `factor` for long ones. */
export function ropeFactors(rope: Extract<RopeConfig, { type: 'llama3' }>): Float32Array {
  return plainFrequencies(rope.theta, rope.rotaryDim).map((frequency) => {
    const keep = llama3Keep(frequency, rope)
    return keep === 0 ? rope.factor : 1 / fround(fround(fround(1 - keep) / rope.factor) + keep)
  })
}
