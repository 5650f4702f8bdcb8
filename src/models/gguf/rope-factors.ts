// `rope_freqs.weight`: one factor a frequency, which llama.cpp divides by. It is how a llama3 rope is written down in GGUF.
import type { Checkpoint, StoredTensor } from '../../checkpoint/types.ts'
import type { DType } from '../../core/dtypes.ts'
import { FileError, UnsupportedError } from '../../core/errors.ts'
import { toFloat32 } from '../../core/half.ts'
import type { PlainObject } from '../../core/json.ts'
import type { RopeConfig, RopeOf } from '../model-config.ts'
import { llama3Keep, plainFrequencies } from '../rope.ts'
import type { GeneratedTensor } from './profile.ts'

const { fround } = Math

const ROPE_FACTORS_NAME = 'rope_freqs.weight'
const LONG_FACTORS_NAME = 'rope_factors_long.weight'
const SHORT_FACTORS_NAME = 'rope_factors_short.weight'

/** The ropes with the file's factors, where it has any; its few numbers are the only ones read while planning. */
export async function withRopeFactors(
  ropes: readonly (RopeConfig | undefined)[],
  checkpoint: Checkpoint,
): Promise<(RopeConfig | undefined)[]> {
  const tensor = checkpoint.tensors.get(ROPE_FACTORS_NAME)
  if (!tensor) return [...ropes]
  const factors = await readFactors(tensor, ropes.find((rope) => rope !== undefined)!.rotaryDim / 2, checkpoint)
  // Layers that share a rope go on sharing it.
  const made = new Map<RopeConfig, RopeConfig>()
  return ropes.map((rope) => {
    if (!rope) return rope
    if (!made.has(rope)) made.set(rope, withFactors(rope, factors, checkpoint.files.name))
    return made.get(rope)!
  })
}

/** The numbers of a factor tensor [count]. Throws FileError where they are none. */
async function readFactors(tensor: StoredTensor, count: number, checkpoint: Checkpoint): Promise<number[]> {
  const file = checkpoint.files.name
  if (tensor.dtype !== 'F32' || String(tensor.shape) !== String([count]))
    throw new FileError(
      `Cannot load "${file}": "${tensor.name}" is ${tensor.dtype} [${tensor.shape.join(', ')}], expected F32 [${count}]`,
      { file, tensor: tensor.name, expected: [count], actual: tensor.shape },
    )
  const data = await checkpoint.read(tensor)
  const factors = [...toFloat32({ dtype: tensor.dtype as DType, shape: tensor.shape, data })]
  if (factors.every((f) => f > 0 && Number.isFinite(f))) return factors
  throw new FileError(`Cannot load "${file}": "${tensor.name}" holds a factor that is not above 0`, {
    file,
    tensor: tensor.name,
  })
}

function withFactors(rope: RopeConfig, factors: readonly number[], file: string): RopeConfig {
  const { theta, rotaryDim, maxPositions } = rope
  const base = { theta, rotaryDim, maxPositions, type: 'factors' as const }
  if (rope.type === 'default') return { ...base, factors }
  if (rope.type === 'linear') return { ...base, factors: factors.map((f) => f * rope.factor) }
  throw new UnsupportedError(`Cannot run "${file}": it has both "${ROPE_FACTORS_NAME}" and a ${rope.type} rope`, {
    file,
  })
}

/** The tensors that a rope is written down as: none, the factors of a llama3 rope, or both lists of a longrope. */
export function generatedFactors(rope: RopeConfig): GeneratedTensor[] {
  if (rope.type === 'llama3') return [{ name: ROPE_FACTORS_NAME, values: ropeFactors(rope) }]
  if (rope.type !== 'longrope') return []
  return [
    { name: LONG_FACTORS_NAME, values: Float32Array.from(rope.longFactor) },
    { name: SHORT_FACTORS_NAME, values: Float32Array.from(rope.shortFactor) },
  ]
}

/** The longrope of a file, as the keys of its config.json; undefined where it has none. */
export async function longropeParameters(checkpoint: Checkpoint, count: number): Promise<PlainObject | undefined> {
  const [long, short] = [LONG_FACTORS_NAME, SHORT_FACTORS_NAME].map((name) => checkpoint.tensors.get(name))
  if (!long || !short) return undefined
  const [long_factor, short_factor] = [
    await readFactors(long, count, checkpoint),
    await readFactors(short, count, checkpoint),
  ]
  return { rope_type: 'longrope', long_factor, short_factor }
}

/** The factors [rotaryDim / 2] that a llama3 rope is written down as: 1 for short waves, `factor` for long ones. */
function ropeFactors(rope: RopeOf<'llama3'>): Float32Array {
  return plainFrequencies(rope.theta, rope.rotaryDim).map((frequency) => {
    const keep = llama3Keep(frequency, rope)
    return keep === 0 ? rope.factor : 1 / fround(fround(fround(1 - keep) / rope.factor) + keep)
  })
}
