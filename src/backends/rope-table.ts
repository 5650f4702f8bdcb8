// Cosines and sines of the rows of a batch, shared by all backends. Angles are products in float32, as the reference's are.
import type { RopeSpec } from '../graph/types.ts'

/** The longest length that a length-dependent rope has seen; it shrinks only as the reference's does (RopeSpec decides). */
export interface LengthSeen {
  value: number
}

/** cos and sin [R, rotaryDim / 2] for each row's position; updates `seen`. */
export function ropeRows(
  spec: RopeSpec,
  positions: Int32Array,
  seen: LengthSeen,
): { cos: Float32Array; sin: Float32Array } {
  let length = 0
  for (const p of positions) length = Math.max(length, p + 1)
  if (spec.dependsOnLength) seen.value = length
  const { inverse, scale } = spec.frequencies(length)
  const half = spec.rotaryDim / 2
  const cos = new Float32Array(positions.length * half)
  const sin = new Float32Array(positions.length * half)
  positions.forEach((p, r) => {
    for (let i = 0; i < half; i++) {
      const angle = Math.fround(p * inverse[i])
      cos[r * half + i] = Math.cos(angle) * scale
      sin[r * half + i] = Math.sin(angle) * scale
    }
  })
  return { cos, sin }
}
